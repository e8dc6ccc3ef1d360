"""The image set depends only on the setting, never on which registry answers."""

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
def test_the_hermetic_set_is_the_default_and_upstream_needs_a_setting(
    named: str | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGE_SET", raising=False)
    if named:
        monkeypatch.setenv("IMAGE_SET", named)
    assert image_set.choose() == chosen


def test_an_unknown_set_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SET", "some")
    with pytest.raises(ConfigError, match="IMAGE_SET=some"):
        image_set.choose()


@pytest.mark.parametrize(
    ("chosen", "mirror", "made"),
    [
        ("hermetic", "http://mirror/debian", True),
        # Ubuntu has no Debian mirror: the base images come from the registry, and the images on top are built here.
        ("hermetic", "", False),
        ("upstream", "http://mirror/debian", False),
    ],
)
def test_base_images_are_built_for_the_hermetic_set_when_a_debian_mirror_is_known(
    chosen: str, mirror: str, made: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(base_images, "_APT", tmp_path)
    monkeypatch.setenv("GROUND_DEBIAN_MIRROR", mirror)
    monkeypatch.setenv("IMAGE_SET", chosen)
    assert image_set.makes_bases() is made


def test_a_missing_base_image_is_refused_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sudo, "obstacle", lambda: "needs root, and sudo does not permit it to this user")
    engine: Any = _WithoutImages()
    with pytest.raises(Refused, match=r"base image hermetic/debian:trixie-\w+ needs root, and sudo does not") as caught:
        base_images.bases(engine, {"DEBIAN_TRIXIE"}, print)
    assert "as root" in caught.value.hint


class _WithoutImages:
    """An engine without images."""

    @property
    def images(self) -> _WithoutImages:
        return self

    def get(self, reference: str) -> None:
        raise ImageNotFound(reference)


class _Busy:
    """An engine whose registry throttles it."""

    @property
    def api(self) -> _Busy:
        return self

    def inspect_distribution(self, reference: str) -> None:
        raise APIError(f"429 for {reference}", explanation="toomanyrequests")


def test_a_throttling_registry_is_unavailable_and_does_not_change_the_set() -> None:
    engine: Any = _Busy()
    with pytest.raises(Unavailable, match="toomanyrequests"):
        image_set.digests(engine, ImageSet("upstream", {}))
