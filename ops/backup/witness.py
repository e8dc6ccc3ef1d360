"""A second count of the repositories that shares no code with git's listing: Gitea's table, and the folders on the file system."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ops.backup.manifest import Manifest
from ops.backup.repositories import REPOSITORIES
from ops.world.postgres import Session

# The user of Gitea's container that owns all of its data (USER_UID in compose.yaml).
OWNER = 1000
# A backup with that many repositories less than the one before is reported: this number, or this share if it is more.
_DROP, _DROP_SHARE = 2, 0.1
# Rows without code: an empty repository has no ref (is_empty), one that is still being migrated (status 1) has no folder yet, and
# one whose migration failed (status 3) never gets one. A pending transfer (2) has its code (Gitea, models/repo/repo.go).
_WITHOUT_CODE = {"is_empty": "is_empty IS NOT TRUE", "status": "status NOT IN (1, 3)"}
_SHOWN = 20


@dataclass(frozen=True)
class Folder:
    """One repository's folder: its name (owner/name.git), its owner's user id, and the time of its or its account's last change."""

    name: str
    owner: int
    changed: float


def expected(session: Session) -> frozenset[str]:
    """Return the repositories with code by Gitea's table, as owner/name.git; in a transaction, as of its snapshot."""
    present = {
        name
        for (name,) in session.ask(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name = 'repository'"
        )
    }
    if not {"owner_name", "lower_name"} <= present:
        return frozenset()
    conditions = [condition for column, condition in _WITHOUT_CODE.items() if column in present]
    rows = session.ask(
        "SELECT lower(owner_name) || '/' || lower_name || '.git' FROM repository "  # noqa: S608 - ours
        f"WHERE {' AND '.join(conditions) or 'true'}"
    )
    # Gitea itself finds no folder for a row without an owner.
    return frozenset(name for (name,) in rows if name)


def folders(data: Path) -> tuple[Folder, ...]:
    """Return the repositories' folders in a copy of Gitea's data, by reading directories alone; sorted by name."""
    owners = _directories(data / REPOSITORIES)
    found = []
    for each in (one for owner in owners for one in _directories(owner) if one.suffix == ".git"):
        # On the live data, a repository may be deleted meanwhile.
        with suppress(FileNotFoundError):
            found.append(_folder(each))
    return tuple(sorted(found, key=lambda each: each.name))


def missing(listed: Collection[str], expected: Collection[str], folders: Iterable[Folder]) -> tuple[str, ...]:
    """Return the repositories that the database or the file system has and git's listing does not."""
    return tuple(sorted({*expected, *(each.name for each in folders)} - {*listed}))


def missing_lines(names: Collection[str], identity: str) -> tuple[str, ...]:
    """Return a line for each repository that a backup does not have; the first twenty of many."""
    shown = [
        f"repository {name} is missing from backup {identity}, by Gitea's database or its folders" for name in names
    ]
    more = [f"{len(shown) - _SHOWN} more repositories are missing from backup {identity}"]
    return tuple(shown if len(shown) <= _SHOWN else [*shown[:_SHOWN], *more])


def check_manifest(chosen: Manifest, before: Manifest | None, *, explained: bool = False) -> tuple[str, ...]:
    """Return each reason to doubt that a manifest has all repositories of its moment.

    They are the repositories that were missing when it was taken; fewer repositories than rows, in a manifest without that
    list; and a drop against the manifest ``before``. With ``explained``, a drop that the number of rows shares does not count.
    """
    if chosen.missing is None:
        rows, listed = chosen.rows.get("repository", 0), len(_code(chosen))
        short = (
            [f"backup {chosen.identity} has {listed} repositories, and its database {rows}"] if listed < rows else []
        )
    else:
        short = list(missing_lines(chosen.missing, chosen.identity))
    return (*short, *_drop(chosen, before, explained=explained))


def owner_lines(folders: Iterable[Folder], data: Path) -> tuple[str, ...]:
    """Return a line for each repository whose files another user than Gitea's owns: Gitea cannot write to it."""
    wrong = [each for each in folders if each.owner != OWNER]
    shown = [
        f"repository {each.name} belongs to user {each.owner}, so Gitea cannot write to it: "
        f"run chown --recursive {OWNER}:{OWNER} {data / REPOSITORIES / each.name}"
        for each in wrong[:_SHOWN]
    ]
    more = [f"{len(wrong) - _SHOWN} more repositories belong to another user than {OWNER}"] if wrong[_SHOWN:] else []
    return (*shown, *more)


def _drop(chosen: Manifest, before: Manifest | None, *, explained: bool) -> tuple[str, ...]:
    if before is None:
        return ()
    lost = len(before.repositories) - len(chosen.repositories)
    if explained:
        lost -= max(0, before.rows.get("repository", 0) - chosen.rows.get("repository", 0))
    if lost <= max(_DROP, len(before.repositories) * _DROP_SHARE):
        return ()
    return (
        f"backup {chosen.identity} has {len(chosen.repositories)} repositories, {before.identity} before it had "
        f"{len(before.repositories)}: check that they were deleted on purpose",
    )


def _code(made: Manifest) -> list[str]:
    return [each for each in made.repositories if not each.endswith(".wiki.git")]


def _directories(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _folder(path: Path) -> Folder:
    """The owner is another one's than Gitea's if that is true for the folder or for a file that git reads refs from."""
    files = [path, *(path / name for name in ("HEAD", "config", "refs", "objects", "packed-refs"))]
    owners = [each.lstat().st_uid for each in files if os.path.lexists(each)]
    name = printable(f"{path.parent.name}/{path.name}")
    # Renaming an account renames the folder above.
    changed = max(each.lstat().st_ctime for each in (path, path.parent))
    return Folder(name, next((each for each in owners if each != OWNER), OWNER), changed)


def printable(name: str) -> str:
    """Return a file's name as text that can be printed, bytes outside of UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
