"""Building one image of ground/images or ground/derived. Its tag is a digest of its build context."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, ImageNotFound

from ground.image_recipes import REPOSITORY, Recipe
from ops.errors import OpsError
from ops.world import wheels


def local_name(recipe: Recipe, arguments: Mapping[str, str], version: str) -> str:
    """Return the local name of a recipe's image: another one for any other content, base image or version."""
    return f"{'derived' if recipe.derived else 'hermetic'}/{recipe.name}:{_content_key(recipe, arguments, version)}"


def exists(client: docker.DockerClient, reference: str) -> bool:
    """Tell whether the engine has the image."""
    try:
        client.images.get(reference)
    except ImageNotFound:
        return False
    return True


def build(
    client: docker.DockerClient, recipe: Recipe, reference: str, arguments: Mapping[str, str], cache: Path
) -> None:
    """Build a recipe's image with the build arguments and tag it; raises OpsError with the end of the build's output."""
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / "context"
        shutil.copytree(recipe.folder, context, symlinks=True)
        for extra in recipe.context:
            _copy(extra, context / extra.name)
        if recipe.vendored:
            _place_vendored(recipe, context, cache)
        try:
            client.images.build(path=str(context), tag=reference, buildargs=dict(arguments), rm=True)
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
