"""Images are pinned by version, and by digest once a registry was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import ConfigError, OpsError
from ops.images import pins as image_pins
from tests.support import fakes


def test_the_pins_that_ship_name_a_version_each() -> None:
    pins = image_pins.pinned(Path(__file__).parents[3] / "compose")
    assert pins["GITEA_IMAGE"].startswith("gitea/gitea:")
    assert len(pins) == 7


@pytest.mark.parametrize(
    "line", ["GITEA_IMAGE=gitea/gitea:latest", "GITEA_IMAGE=gitea/gitea", "GITEA=gitea/gitea:1.0", "words"]
)
def test_a_pin_that_pins_nothing_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="pins no version"):
        image_pins.pinned_from(line)


def test_a_pin_with_a_digest_is_kept_as_it_is() -> None:
    pins = {"A_IMAGE": "a/b:1@sha256:00"}
    assert image_pins.resolve(pins, fakes.FakeRegistry()) == pins


def test_resolving_puts_the_digest_behind_the_tag() -> None:
    registry = fakes.FakeRegistry({"a/b:1": "sha256:11"})
    assert image_pins.resolve({"A_IMAGE": "a/b:1"}, registry) == {"A_IMAGE": "a/b:1@sha256:11"}


def test_an_image_that_no_registry_has_stops_the_deployment() -> None:
    with pytest.raises(OpsError, match="a/b:2"):
        image_pins.resolve({"A_IMAGE": "a/b:2"}, fakes.FakeRegistry())
