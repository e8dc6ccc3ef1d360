"""The image set: the hermetic images of ground/images, each built once per content, or upstream's images on request."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, ImageNotFound

from ground import base_images
from ops.errors import ConfigError, OpsError, Unavailable
from ops.images import pins
from ops.world import wheels

Tell = Callable[[str], None]

IMAGES = Path(__file__).parent / "images"
# The base image of compose/ops/Dockerfile.
OPS_BASE = "debian:trixie-slim"
REPOSITORY = Path(__file__).parents[1]
_NOTICES = {
    "hermetic": "image set: hermetic, built here; IMAGE_SET=upstream runs the images that the pins name",
    "upstream": "image set: upstream, the images that the pins name",
}


@dataclass(frozen=True)
class Recipe:
    """One folder of ground/images: its Dockerfile, and the upstream tags that its image replaces."""

    name: str
    folder: Path
    upstream: str
    tags: tuple[str, ...]
    context: tuple[Path, ...] = ()
    vendored: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_arguments(self) -> set[str]:
        """The build arguments for base images in the Dockerfile."""
        lines = (self.folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
        return {line.split()[1] for line in lines if line.startswith("ARG DEBIAN_")}


@dataclass(frozen=True)
class ImageSet:
    """Local images by the upstream reference that they replace (``gitea/gitea:28.1.0``), or by the name of their folder."""

    name: str
    references: Mapping[str, str]

    def local(self, wanted: str) -> str:
        """Return the local image for an upstream reference or a folder of ground/images; raises ConfigError for others."""
        if wanted in self.references:
            return self.references[wanted]
        if self.name == "upstream" and ":" in wanted:
            return wanted
        raise ConfigError(
            f"no image of ground/images replaces {wanted}", "set its tag in the image.toml below ground/images"
        )


def recipes() -> tuple[Recipe, ...]:
    """Return every recipe of ground/images, by name."""
    return tuple(_recipe(each.parent) for each in sorted(IMAGES.glob("*/image.toml")))


def pinned() -> dict[str, str]:
    """Return the stack's pins from compose/images.env: ``{"GITEA_IMAGE": "gitea/gitea:28.1.0", ...}``."""
    return pins.pinned(REPOSITORY / "compose")


def published(made: ImageSet) -> tuple[str, ...]:
    """Return the references in the run's registry: the stack's pins, and every release that the update tests use."""
    names = {pin.rpartition(":")[0] for pin in pinned().values()}
    return tuple(each for each in made.references if each.rpartition(":")[0] in names)


def choose() -> str:
    """Return "upstream" if IMAGE_SET is "upstream", else "hermetic".

    It never depends on network access: a test result must have one meaning.
    """
    named = os.environ.get("IMAGE_SET", "auto")
    if named not in ("auto", "hermetic", "upstream"):
        raise ConfigError(f"IMAGE_SET={named} is not a valid image set", "give auto, hermetic or upstream")
    return "upstream" if named == "upstream" else "hermetic"


def makes_bases() -> bool:
    """Whether this machine makes the Debian base images; without a Debian mirror it pulls them."""
    return choose() == "hermetic" and base_images.configured_mirror() is not None


def build(client: docker.DockerClient, cache: Path, tell: Tell, only: Sequence[str] = ()) -> ImageSet:
    """Build the missing images of the chosen set (with ``only``, of these recipes) and return the whole set.

    An image's tag is a digest of its build context, so an unchanged folder is never built twice.
    """
    chosen = choose()
    tell(_NOTICES[chosen])
    wanted = [each for each in recipes() if _is_wanted(each, chosen, only)]
    bases = {"DEBIAN_TRIXIE"}.union(*(each.base_arguments for each in wanted))
    arguments = (base_images.bases if makes_bases() else base_images.upstream_bases)(client, bases, tell)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        built = pool.map(lambda each: dict(_build(client, each, arguments, cache, tell)), wanted)
        references = {name: reference for part in built for name, reference in part.items()}
    references[OPS_BASE] = arguments["DEBIAN_TRIXIE"]
    return ImageSet(chosen, references)


def _is_wanted(recipe: Recipe, chosen: str, only: Sequence[str]) -> bool:
    return (not only or recipe.name in only) and (chosen == "hermetic" or not recipe.upstream)


def digests(client: docker.DockerClient, made: ImageSet) -> dict[str, str]:
    """Return the digest of each image by its reference: the engine's for local builds, the registry's for pins."""
    to_resolve = set(pinned().values()) if made.name == "upstream" else set()
    try:
        resolved = {pin: client.api.inspect_distribution(pin)["Descriptor"]["digest"] for pin in sorted(to_resolve)}
    except APIError as error:
        raise Unavailable(
            f"the registry returned no digest: {error.explanation or error}",
            "wait and run it again, or set IMAGE_SET=hermetic",
        ) from error
    return resolved | {name: client.images.get(reference).id for name, reference in made.references.items()}


def _recipe(folder: Path) -> Recipe:
    document = tomllib.loads((folder / "image.toml").read_text(encoding="utf-8"))
    context = tuple((folder / each).resolve() for each in document.get("context", []))
    return Recipe(
        folder.name, folder, document["upstream"], tuple(document.get("tags", [])), context, document.get("vendor", {})
    )


def _build(
    client: docker.DockerClient, recipe: Recipe, bases: Mapping[str, str], cache: Path, tell: Tell
) -> Iterator[tuple[str, str]]:
    arguments = {name: bases[name] for name in recipe.base_arguments}
    for version in recipe.tags or ("",):
        reference = f"hermetic/{recipe.name}:{_content_key(recipe, arguments, version)}"
        if not _exists(client, reference):
            tell(f"building {recipe.name} {version}".rstrip())
            _build_one(client, recipe, reference, {**arguments, "VERSION": version}, cache)
        yield (f"{recipe.upstream}:{version}" if recipe.upstream else recipe.name), reference


def _exists(client: docker.DockerClient, reference: str) -> bool:
    try:
        client.images.get(reference)
    except ImageNotFound:
        return False
    return True


def _build_one(
    client: docker.DockerClient, recipe: Recipe, reference: str, arguments: dict[str, str], cache: Path
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / "context"
        shutil.copytree(recipe.folder, context, symlinks=True)
        for extra in recipe.context:
            _copy(extra, context / extra.name)
        if recipe.vendored:
            _place_vendored(recipe, context, cache)
        try:
            client.images.build(path=str(context), tag=reference, buildargs=arguments, rm=True)
        except (BuildError, APIError) as error:
            raise OpsError(
                f"building {recipe.name} failed: {error}\n{_log_end(error)}", f"fix {recipe.folder}"
            ) from error


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _place_vendored(recipe: Recipe, context: Path, cache: Path) -> None:
    requirements = REPOSITORY / recipe.vendored["requirements"]
    key = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    cached = cache / "vendored" / f"{requirements.stem}-{key}"
    if not cached.is_dir():
        wheels.vendor(requirements, cached, python_version=recipe.vendored["python"])
    shutil.copytree(cached, context / recipe.vendored["target"], symlinks=True)


def _log_end(error: Any) -> str:
    lines = [str(line.get("stream") or line.get("error") or "") for line in getattr(error, "build_log", [])]
    return "".join(lines[-25:])


def _content_key(recipe: Recipe, arguments: Mapping[str, str], version: str) -> str:
    digest = hashlib.sha256(repr((sorted(arguments.items()), version)).encode())
    requirements = [REPOSITORY / recipe.vendored["requirements"]] if recipe.vendored else []
    for root in (recipe.folder, *recipe.context, *requirements):
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(root.parent)}\0{file.stat().st_mode & 0o111}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
