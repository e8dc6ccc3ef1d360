"""Prune the host's own repository. Only the snapshots in it decide, so a bucket that fails or is emptied deletes nothing here."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path

from ops.backup import manifest
from ops.backup.manifest import PARTS, Unreadable
from ops.backup.retention import Candidate, plan_retention
from ops.config.schema import Backup as Policy
from ops.world.restic import Restic, Snapshot

# Snapshots that are not part of a backup, by tag, and how many of the newest stay on the host: the first pass that the next one is
# compared with, and base backups of the database. The bucket has all base backups.
KEPT_BESIDE = {"first-pass": 1, "base": 2}
_REUSED = "data-is-"


def prune_local(local: Restic, policy: Policy, verified: Collection[str]) -> int:
    """Remove from the host's own repository what the policy does not keep, and return the number of removed snapshots.

    ``verified`` has the names of verified backups. After an interruption the next run completes the work.
    """
    to_delete = plan_prune_local(local.snapshots(), policy, verified)
    if to_delete:
        local.forget(to_delete)
    local.prune()
    return len(to_delete)


def plan_prune_local(snapshots: Collection[Snapshot], policy: Policy, verified: Collection[str]) -> tuple[str, ...]:
    """Return the snapshots to delete: of backups that the policy does not keep or that were never finished, and old other ones."""
    backups = _by_backup(snapshots)
    candidates = _candidates(backups, {each.identity for each in snapshots}, verified)
    gone = [each.identity for each in plan_retention(candidates, policy) if not each.kept]
    shared = shared_data(snapshots, gone)
    return (
        *(each.identity for name in gone for each in backups[name] if each.identity not in shared),
        *(each for tag, count in KEPT_BESIDE.items() for each in _tagged(snapshots, tag)[:-count]),
    )


def backup_of(snapshot: Snapshot) -> str:
    """Return the name of the backup that a snapshot is a part of, or "" for a snapshot that is not part of one."""
    if len(set(snapshot.tags) & set(PARTS)) != 1:
        return ""
    for tag in snapshot.tags:
        try:
            manifest.moment_of(tag)
        except Unreadable:
            continue
        return tag
    return ""


def reuse_tag(snapshot: str) -> str:
    """Return the tag of a backup whose data is ``snapshot``, which was stored with an earlier backup."""
    return f"{_REUSED}{snapshot}"


def reused_data(snapshot: Snapshot) -> str:
    """Return the snapshot that this one's backup reuses for its data, by its id where it was first stored, or ""."""
    return next((tag.removeprefix(_REUSED) for tag in snapshot.tags if tag.startswith(_REUSED)), "")


def shared_data(snapshots: Iterable[Snapshot], gone: Collection[str]) -> frozenset[str]:
    """Return the snapshots that backups other than those ``gone`` reuse, by their ids where they were first stored."""
    return frozenset(data for each in snapshots if backup_of(each) not in gone and (data := reused_data(each)))


def is_due(note: Path, now: datetime) -> bool:
    """Return whether the last local prune, whose date is in the file ``note``, was on another day."""
    return not note.is_file() or note.read_text(encoding="utf-8") != f"{now:%Y-%m-%d}"


def done(note: Path, now: datetime) -> None:
    """Record in the file ``note`` that the host's repository was pruned today."""
    note.write_text(f"{now:%Y-%m-%d}", encoding="utf-8")


def _by_backup(snapshots: Iterable[Snapshot]) -> dict[str, list[Snapshot]]:
    found: dict[str, list[Snapshot]] = {}
    for each in snapshots:
        if identity := backup_of(each):
            found.setdefault(identity, []).append(each)
    return found


def _candidates(
    backups: dict[str, list[Snapshot]], available: Collection[str], verified: Collection[str]
) -> list[Candidate]:
    whole = {identity for identity, parts in backups.items() if _is_whole(parts, available)}
    return [
        Candidate(each, manifest.moment_of(each), each in whole, each in whole & {*verified}, lost=each not in whole)
        for each in backups
    ]


def _is_whole(parts: Collection[Snapshot], available: Collection[str]) -> bool:
    present = {tag for each in parts for tag in each.tags}
    if any(reused_data(each) in available for each in parts):
        present.add("data")
    return present >= {*PARTS}


def _tagged(snapshots: Iterable[Snapshot], tag: str) -> list[str]:
    return [each.identity for each in snapshots if tag in each.tags]
