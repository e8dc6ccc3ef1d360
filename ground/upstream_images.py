"""Upstream's images in the engine: each digest is pulled once and kept under a name of the suite's own."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import docker
from docker.errors import APIError, ImageNotFound

from ground import image_build, set_choice
from ops.errors import Unavailable

Tell = Callable[[str], None]


def local_name(reference: str, digest: str) -> str:
    """Return the local name of ``name:tag`` at a digest. Upstream's own name would be the user's, or another digest's."""
    name, _, tag = reference.rpartition(":")
    return f"upstream/{name}:{tag}-{digest.removeprefix('sha256:')[:12]}"


def provide(client: docker.DockerClient, reference: str, digest: str, cache: Path, tell: Tell) -> None:
    """Pull ``name:tag`` at a digest and tag it with its local name, unless the engine has it; raises Unavailable.

    Processes that need the same image wait for each other, so that one of them pulls it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"pull-{digest.removeprefix('sha256:')[:12]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = local_name(reference, digest)
        if image_build.exists(client, wanted):
            return
        repository = _repository(reference)
        try:
            image = client.images.get(f"{repository}@{digest}")
        except ImageNotFound:
            tell(f"pulling {reference}")
            image = _pull(client, reference, repository, digest)
        name, _, tag = wanted.rpartition(":")
        image.tag(name, tag)


def _pull(client: docker.DockerClient, reference: str, repository: str, digest: str) -> docker.models.images.Image:
    try:
        return client.images.pull(repository, tag=digest)
    except APIError as error:
        raise Unavailable(
            f"{reference} cannot be pulled: {error.explanation or error}",
            f"wait and run it again, or set {set_choice.VARIABLE}={set_choice.HERMETIC}",
        ) from error


def _repository(reference: str) -> str:
    """Return the repository for the engine: Docker Hub's short name, or the full one of another registry."""
    name = reference.rpartition(":")[0]
    if not set_choice.registry():
        return name
    return f"{urlsplit(set_choice.registry()).netloc}/{name if '/' in name else f'library/{name}'}"
