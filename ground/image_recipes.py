"""The folders of ground/images and ground/derived: which image each makes, and which upstream images a set needs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.images import pins

REPOSITORY = Path(__file__).parents[1]
IMAGES = Path(__file__).parent / "images"
DERIVED = Path(__file__).parent / "derived"
# The base images of the Dockerfiles, by build argument.
BASES = {f"DEBIAN_{suite.upper()}": f"debian:{suite}-slim" for suite in ("bookworm", "trixie", "forky")}
# The base image of compose/ops/Dockerfile.
OPS_BASE = BASES["DEBIAN_TRIXIE"]


@dataclass(frozen=True)
class Recipe:
    """One folder with a Dockerfile and an image.toml.

    ``upstream`` is the image that it replaces, with the ``tags`` that exist there; "" for an image of the test environment's own.
    A ``derived`` one is made from the stack's pinned image of that name, under tags that upstream does not have.
    """

    name: str
    folder: Path
    upstream: str
    tags: tuple[str, ...]
    context: tuple[Path, ...] = ()
    vendored: Mapping[str, str] = field(default_factory=dict)
    derived: bool = False

    @property
    def base_arguments(self) -> set[str]:
        """The build arguments for base images in the Dockerfile."""
        lines = (self.folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
        return {line.split()[1] for line in lines if line.startswith("ARG DEBIAN_")}

    @property
    def references(self) -> dict[str, str]:
        """The version of each image by its reference (``gitea/gitea:28.1.0``), or by the folder's name."""
        if not self.upstream:
            return {self.name: ""}
        return {f"{self.upstream}:{tag}": tag for tag in self.tags}


def recipes() -> tuple[Recipe, ...]:
    """Return every recipe of ground/images, by name."""
    return tuple(_recipe(each.parent) for each in sorted(IMAGES.glob("*/image.toml")))


def derived() -> tuple[Recipe, ...]:
    """Return a recipe of ground/derived for each image that its folders derive from, by name."""
    found = []
    for file in sorted(DERIVED.glob("*/image.toml")):
        tags: Mapping[str, list[str]] = tomllib.loads(file.read_text(encoding="utf-8"))["tags"]
        name = file.parent.name
        found += [Recipe(name, file.parent, image, tuple(each), derived=True) for image, each in tags.items()]
    return tuple(found)


def pinned() -> dict[str, str]:
    """Return the stack's pins from compose/images.env: ``{"GITEA_IMAGE": "gitea/gitea:28.1.0", ...}``."""
    return pins.pinned(REPOSITORY / "compose")


def base_of(recipe: Recipe) -> str:
    """Return the pin that a derived recipe starts from."""
    found = (pins.pin_from(each) for each in pinned().values())
    return next(pin.image for pin in found if pin.name == recipe.upstream)


def from_registry() -> tuple[str, ...]:
    """Return every image that the upstream set has from a registry: pins, further releases for tests, base images."""
    releases = (each for recipe in recipes() if recipe.upstream for each in recipe.references)
    own = {argument for recipe in recipes() if not recipe.upstream for argument in recipe.base_arguments}
    bases = {OPS_BASE} | {BASES[argument] for argument in own}
    return tuple(sorted({*pinned().values(), *releases, *bases}))


def _recipe(folder: Path) -> Recipe:
    document = tomllib.loads((folder / "image.toml").read_text(encoding="utf-8"))
    context = tuple((folder / each).resolve() for each in document.get("context", []))
    return Recipe(
        folder.name, folder, document["upstream"], tuple(document.get("tags", [])), context, document.get("vendor", {})
    )
