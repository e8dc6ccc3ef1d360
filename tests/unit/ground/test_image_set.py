"""The plan of an image set: which images it builds, which it pulls, and what it makes again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound

from ground import base_images, image_recipes, image_set, sudo, upstream_images
from ground.image_set import ImageSet
from ground.set_choice import Choice
from ops.errors import ConfigError, Refused


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
    for name, value in Choice(chosen, "a test").variables().items():
        monkeypatch.setenv(name, value)
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


def test_an_image_that_the_engine_has_lost_is_made_again_when_it_is_asked_for() -> None:
    lost: list[tuple[str, str]] = []
    made = ImageSet("hermetic", {"nginx:1.30.4": "hermetic/nginx:0af3"}, restore=lambda *names: lost.append(names))
    assert made.local("nginx:1.30.4") == "hermetic/nginx:0af3"
    assert lost == [("nginx:1.30.4", "hermetic/nginx:0af3")]
    with pytest.raises(ConfigError, match=r"replaces nginx:9\.9"):
        made.local("nginx:9.9")


def test_every_pin_and_every_base_of_a_derived_release_has_a_recipe() -> None:
    known = {reference for recipe in image_recipes.recipes() for reference in recipe.references}
    assert set(image_recipes.pinned().values()) <= known
    assert {image_recipes.base_of(recipe) for recipe in image_recipes.derived()} <= known


def test_no_derived_release_has_the_tag_of_a_release_that_upstream_has() -> None:
    own = {reference for recipe in image_recipes.recipes() for reference in recipe.references}
    made = [reference for recipe in image_recipes.derived() for reference in recipe.references]
    assert len(made) == len(set(made))
    assert not own & set(made)


def test_the_upstream_set_asks_for_the_pins_the_older_releases_and_the_base_images_alone() -> None:
    asked = image_recipes.from_registry()
    assert set(image_recipes.pinned().values()) | {"gitea/gitea:1.22.6", "debian:trixie-slim"} <= set(asked)
    assert not {each for each in asked if "28.1.1" in each or each in ("host:", "mail:")}
    # Three base images are enough for the test environment's own.
    assert sum(each.startswith("debian:") for each in asked) == 3


def test_a_set_without_further_releases_has_the_pins_and_the_test_environment_s_own_images() -> None:
    own, derived = image_set._plan((), releases=False)
    pins = set(image_recipes.pinned().values())
    assert {each for each in own if ":" in each} == pins
    assert {"host", "registry", "localstack"} <= set(own)
    assert derived == {}
    every, broken = image_set._plan((), releases=True)
    assert "gitea/gitea:1.22.6" in every
    assert "gitea/gitea:28.1.1-crash" in broken
    assert set(image_set._plan(("mail",), releases=True)[0]) == {"mail"}


def test_the_local_name_of_a_pulled_image_has_its_digest() -> None:
    digest = "sha256:" + "0123456789ab" + "c" * 52
    assert upstream_images.local_name("gitea/gitea:28.1.0", digest) == "upstream/gitea/gitea:28.1.0-0123456789ab"


def test_the_evidence_of_pulled_images_has_the_registry_s_digests() -> None:
    pulled = {"postgres:18.6": "sha256:" + "ab" * 32}
    made = ImageSet("upstream", {"postgres:18.6": "upstream/postgres:18.6-abababababab"}, digests=pulled)
    engine: Any = _WithoutImages()
    assert image_set.digests(engine, made) == pulled
