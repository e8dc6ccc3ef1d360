"""Images are pinned by version, and by digest once the registry was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import ConfigError, OpsError
from ops.images import pins as image_pins
from tests.support import fakes


def test_each_shipped_pin_has_a_version() -> None:
    pins = image_pins.pinned(Path(__file__).parents[3] / "compose")
    assert pins["GITEA_IMAGE"].startswith("gitea/gitea:")
    assert len(pins) == 15


@pytest.mark.parametrize(
    "line", ["GITEA_IMAGE=gitea/gitea:latest", "GITEA_IMAGE=gitea/gitea", "GITEA=gitea/gitea:1.0", "words"]
)
def test_a_line_without_a_pinned_version_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="pins no version"):
        image_pins.pinned_from(line)


def test_a_pin_with_a_digest_is_not_changed() -> None:
    pins = {"A_IMAGE": "a/b:1@sha256:00"}
    assert image_pins.resolve(pins, fakes.FakeRegistry()) == pins


def test_resolving_adds_the_digest_to_the_tag() -> None:
    registry = fakes.FakeRegistry({"a/b:1": "sha256:11"})
    assert image_pins.resolve({"A_IMAGE": "a/b:1"}, registry) == {"A_IMAGE": "a/b:1@sha256:11"}


def test_an_image_that_is_not_in_the_registry_stops_the_deployment() -> None:
    with pytest.raises(OpsError, match="a/b:2"):
        image_pins.resolve({"A_IMAGE": "a/b:2"}, fakes.FakeRegistry())
