"""The image set: the hermetic images of ground/images, or upstream's images, and the releases that are derived from either."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import docker

from ground import base_images, image_build, image_recipes, set_choice, upstream_images
from ground.image_recipes import Recipe
from ground.set_choice import HERMETIC, UPSTREAM, Choice
from ops.errors import ConfigError

Tell = Callable[[str], None]

IMAGES = image_recipes.IMAGES
OPS_BASE = image_recipes.OPS_BASE
pinned = image_recipes.pinned
_NOTICES = {
    HERMETIC: "image set: hermetic, built here, with a stand-in instead of Gitea",
    UPSTREAM: "image set: upstream, the images that the pins name",
}


@dataclass(frozen=True)
class ImageSet:
    """Local images by the upstream reference that they replace (``gitea/gitea:28.1.0``), or by the name of their folder.

    ``digests`` are the registry's digests of the pulled ones. ``restore`` makes or pulls an image again that the engine has
    lost since, for example by ``docker image prune``.
    """

    name: str
    references: Mapping[str, str]
    reason: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    restore: Callable[[str, str], None] = field(default=lambda *_: None, compare=False)

    def local(self, wanted: str) -> str:
        """Return the local image for an upstream reference or a folder of ground/images; raises ConfigError for others."""
        if wanted not in self.references:
            raise ConfigError(
                f"no image of ground/images or ground/derived replaces {wanted}", "set its tag in the image.toml there"
            )
        local = self.references[wanted]
        self.restore(wanted, local)
        return local


def published(made: ImageSet) -> tuple[str, ...]:
    """Return the references in the run's registry: the stack's pins, and every release that the update tests use."""
    names = {pin.rpartition(":")[0] for pin in pinned().values()}
    return tuple(each for each in made.references if each.rpartition(":")[0] in names)


def makes_bases() -> bool:
    """Whether this machine makes the Debian base images; without a Debian mirror it pulls them."""
    return set_choice.choose().name == HERMETIC and base_images.configured_mirror() is not None


def build(
    client: docker.DockerClient, cache: Path, tell: Tell, only: Sequence[str] = (), *, releases: bool = True
) -> ImageSet:
    """Build or pull the missing images of the run's set and return the whole set.

    With ``only``, the images of these folders; without ``releases``, the stack's pins without the further releases that the
    tests of updates need. An unchanged folder is never built twice, and a digest is never pulled twice.
    """
    choice = set_choice.choose()
    tell(f"{_NOTICES[choice.name]} ({choice.reason})")
    own, derived = _plan(only, releases=releases)
    source = _Source(client, cache, tell, choice, {**own, **derived})
    references = source.provide_all(own)
    references |= source.provide_all(derived)
    references[OPS_BASE] = source.provide(OPS_BASE)
    pulled = {each: digest for each, digest in choice.digests.items() if each in references}
    return ImageSet(choice.name, references, choice.reason, pulled, source.restore)


def digests(client: docker.DockerClient, made: ImageSet) -> dict[str, str]:
    """Return the digest of each image by its reference: the engine's for local builds, the registry's for pulled ones."""
    built = (each for each in made.references if each not in made.digests)
    return {**made.digests, **{name: client.images.get(made.local(name)).id for name in built}}


Planned = Mapping[str, tuple[Recipe, str]]


def _plan(only: Sequence[str], *, releases: bool) -> tuple[Planned, Planned]:
    """Return recipe and version of each wanted image, by its reference: the set's own images, and the derived releases."""
    own = _by_reference(each for each in image_recipes.recipes() if not only or each.name in only)
    if not releases:
        pins = set(pinned().values())
        own = {name: planned for name, planned in own.items() if not planned[0].upstream or name in pins}
    return own, _by_reference(() if only or not releases else image_recipes.derived())


def _by_reference(recipes: Iterable[Recipe]) -> Planned:
    return {reference: (each, version) for each in recipes for reference, version in each.references.items()}


@dataclass(frozen=True)
class _Source:
    """Where the images of a set come from: each is built, or pulled, if the engine does not have it."""

    client: docker.DockerClient
    cache: Path
    tell: Tell
    choice: Choice
    planned: Planned

    def provide_all(self, references: Iterable[str]) -> dict[str, str]:
        """Make several images at the same time and return their local names."""
        wanted = sorted(references)
        # First, because several images need the same one.
        self._bases(
            {each for name in wanted if not self._is_pulled(name) for each in self.planned[name][0].base_arguments}
        )
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            return dict(zip(wanted, pool.map(self.provide, wanted), strict=True))

    def provide(self, reference: str) -> str:
        """Make an image, unless the engine has it, and return its local name."""
        for argument, base in image_recipes.BASES.items():
            if base == reference:
                return self._bases({argument})[argument]
        if self._is_pulled(reference):
            return self._pull(reference)
        recipe, version = self.planned[reference]
        arguments = self._bases(recipe.base_arguments)
        if recipe.derived:
            arguments["BASE"] = self.provide(image_recipes.base_of(recipe))
        local = image_build.local_name(recipe, arguments, version)
        if not image_build.exists(self.client, local):
            self.tell(f"building {reference}")
            # A variable VERSION of the base image would hide a build argument of that name.
            named = {"DERIVED_VERSION" if recipe.derived else "VERSION": version}
            image_build.build(self.client, recipe, local, {**arguments, **named}, self.cache)
        return local

    def restore(self, reference: str, local: str) -> None:
        """Make an image again that the engine has lost."""
        if not image_build.exists(self.client, local):
            self.tell(f"{reference} is missing in the engine")
            self.provide(reference)

    def _is_pulled(self, reference: str) -> bool:
        recipe, _ = self.planned[reference]
        return self.choice.name == UPSTREAM and bool(recipe.upstream) and not recipe.derived

    def _pull(self, reference: str) -> str:
        digest = self.choice.digests[reference]
        upstream_images.provide(self.client, reference, digest, self.cache, self.tell)
        return upstream_images.local_name(reference, digest)

    def _bases(self, arguments: set[str]) -> dict[str, str]:
        """Return the local name of each base image, and make or pull the missing ones."""
        if self.choice.name == UPSTREAM:
            return {each: self._pull(image_recipes.BASES[each]) for each in sorted(arguments)}
        return (base_images.bases if makes_bases() else base_images.upstream_bases)(self.client, arguments, self.tell)
