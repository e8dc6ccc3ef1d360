"""The parts of Gitea's data that a backup would miss: subvolumes and mounts inside it, and links that leave it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ops.backup.caches import CACHES
from ops.backup.witness import printable
from ops.config.paths import HostPaths
from ops.errors import Refused
from ops.world import World

# Gitea's data as its container sees it: an absolute link below it stays inside.
_IN_CONTAINER = PurePosixPath("/data")


def require_complete(world: World, paths: HostPaths) -> None:
    """Raise Refused when a snapshot of Gitea's data would miss a part: a subvolume or a mount inside it that is not empty.

    Without btrfs there is no snapshot: restic reads every file system below the folder, and nothing is missed.
    """
    if not world.btrfs.can_snapshot(paths.live):
        return
    subvolumes = set(world.btrfs.nested(paths.live))
    mounts = {*world.btrfs.mounts(paths.live)} - subvolumes - {paths.live}
    inside = [(each, "subvolume") for each in subvolumes] + [(each, "mount") for each in mounts]
    found = [f"{kind} {each}" for each, kind in sorted(inside) if _has_content(each)]
    if not found:
        return
    raise Refused(
        f"a snapshot of {paths.live} would miss: {', '.join(found)}",
        "move the content into a plain folder of the same name: for a subvolume cp --archive --reflink and btrfs subvolume "
        "delete, for a mount cp --archive and umount; then run ops backup take again",
        left_as="nothing was changed, and no backup was made",
    )


def links_leaving(folder: Path) -> tuple[str, ...]:
    """Return each symbolic link in a copy of Gitea's data that leaves it, as "PATH -> TARGET" with the path below the data.

    A backup has such a link and not its target. The caches are not looked at: a temporary checkout may hold any link.
    """
    found = []
    for each, target in _links(folder):
        path = PurePosixPath(each.relative_to(folder))
        if _leaves(path, target):
            found.append(printable(f"{path} -> {target}"))
    return tuple(sorted(found))


def _links(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each symbolic link below a folder with its target. Without btrfs Gitea works on, so entries may vanish meanwhile."""
    waiting, skipped = [folder], {folder / each for each in CACHES}
    while waiting:
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for each in entries:
                if each.is_dir(follow_symlinks=False) and Path(each.path) not in skipped:
                    waiting.append(Path(each.path))
                elif each.is_symlink():
                    with suppress(FileNotFoundError):
                        yield Path(each.path), str(Path(each.path).readlink())


def _leaves(link: PurePosixPath, target: str) -> bool:
    """Return whether a link leaves the data; one that points to another link inside does not, that link is checked itself."""
    absolute = os.path.normpath(_IN_CONTAINER / link.parent / target)
    return not PurePosixPath(absolute).is_relative_to(_IN_CONTAINER)


def _has_content(place: Path) -> bool:
    return not place.is_dir() or any(place.iterdir())
