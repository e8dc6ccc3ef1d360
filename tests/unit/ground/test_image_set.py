"""Which image set runs is a matter of what was asked for, never of which registry answered in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from ground import base_images, image_set, sudo
from ground.image_set import ImageSet
from ops.errors import ConfigError, Refused, Unavailable


@pytest.mark.parametrize(
    ("named", "chosen"),
    [(None, "hermetic"), ("auto", "hermetic"), ("hermetic", "hermetic"), ("upstream", "upstream")],
)
def test_the_hermetic_set_runs_unless_upstream_s_is_asked_for(
    named: str | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGE_SET", raising=False)
    if named:
        monkeypatch.setenv("IMAGE_SET", named)
    assert image_set.choose() == chosen


def test_a_set_that_is_not_known_is_a_wrong_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SET", "some")
    with pytest.raises(ConfigError, match="IMAGE_SET=some"):
        image_set.choose()


@pytest.mark.parametrize(
    ("chosen", "mirror", "made"),
    [
        ("hermetic", "http://mirror/debian", True),
        # Ubuntu knows no Debian mirror: the base images come from the registry, what is built on them does not.
        ("hermetic", "", False),
        ("upstream", "http://mirror/debian", False),
    ],
)
def test_base_images_are_made_here_for_the_hermetic_set_where_a_debian_mirror_is_known(
    chosen: str, mirror: str, made: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(base_images, "_APT", tmp_path)
    monkeypatch.setenv("GROUND_DEBIAN_MIRROR", mirror)
    monkeypatch.setenv("IMAGE_SET", chosen)
    assert image_set.makes_bases() is made


def test_without_root_a_base_image_that_is_missing_is_refused_and_root_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sudo, "obstacle", lambda: "needs root, and sudo does not permit it to this user")
    engine: Any = _WithoutImages()
    with pytest.raises(Refused, match=r"base image hermetic/debian:trixie-\w+ needs root, and sudo does not") as caught:
        base_images.bases(engine, {"DEBIAN_TRIXIE"}, print)
    assert "as root" in caught.value.hint


class _WithoutImages:
    """An engine that has no image."""

    @property
    def images(self) -> _WithoutImages:
        return self

    def get(self, reference: str) -> None:
        raise ImageNotFound(reference)


class _Busy:
    """An engine whose registry has had enough of it."""

    @property
    def api(self) -> _Busy:
        return self

    def inspect_distribution(self, reference: str) -> None:
        raise APIError(f"429 for {reference}", explanation="toomanyrequests")


def test_a_registry_that_has_had_enough_is_unavailable_and_no_reason_for_another_set() -> None:
    engine: Any = _Busy()
    with pytest.raises(Unavailable, match="toomanyrequests"):
        image_set.digests(engine, ImageSet("upstream", {}))
