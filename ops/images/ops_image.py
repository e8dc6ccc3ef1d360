"""The image of ``ops`` itself: built once for each content of the tree, then identical on every host."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ops.world import World
from ops.world.wheels import vendor

PYTHON = "3.13"

# Longer than any deployment takes.
_KEPT_SECONDS = 2 * 60 * 60


@dataclass(frozen=True)
class OpsImage:
    """The built image: its name, its id, and the archive that a deployment copies to the host."""

    reference: str
    identity: str
    archive: Path


def ensure(repository: Path, cache: Path, world: World) -> OpsImage:
    """Return the image for the tree's content; build and save it only if it does not exist yet."""
    base = os.environ.get("OPS_BASE_IMAGE", "debian:trixie-slim")
    reference = f"gitea-suite/ops:{_content_key(repository, base)}"
    identity = world.containers.image_id(reference) or _build(repository, cache, base, reference, world)
    archive = cache / "ops-image" / f"{identity.removeprefix('sha256:')}.tar.gz"
    archive.parent.mkdir(parents=True, exist_ok=True)
    if not archive.is_file():
        world.containers.save(reference, archive)
    now = world.clock.now().timestamp()
    os.utime(archive, (now, now))
    _remove_old_archives(archive.parent, now)
    return OpsImage(reference, identity, archive)


def _remove_old_archives(folder: Path, now: float) -> None:
    """Remove archives of an eighth of a gigabyte each; a recently used one may be in transfer to another site's host."""
    for archive in folder.iterdir():
        with suppress(FileNotFoundError):
            if now - archive.stat().st_mtime > _KEPT_SECONDS:
                archive.unlink()


def _build(repository: Path, cache: Path, base: str, reference: str, world: World) -> str:
    world.tell(f"building {reference}")
    lock = repository / "requirements/ops.txt"
    wheels = cache / "vendored" / f"ops-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not wheels.is_dir():
        vendor(lock, wheels, python_version=PYTHON)
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        shutil.copy(repository / "compose/ops/Dockerfile", context)
        shutil.copytree(repository / "ops", context / "ops", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(wheels, context / "site-packages")
        return world.containers.build(context, reference, {"DEBIAN_TRIXIE": base}, world.tell)


def _content_key(repository: Path, base: str) -> str:
    digest = hashlib.sha256(base.encode())
    for file in sorted(_sources(repository)):
        digest.update(f"{file.relative_to(repository)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _sources(repository: Path) -> Iterator[Path]:
    roots: Iterable[Path] = (repository / "ops", repository / "compose/ops")
    for root in roots:
        yield from (file for file in root.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    yield repository / "requirements/ops.txt"
