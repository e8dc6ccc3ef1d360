"""What the host keeps in its own repository. It judges by the snapshots there alone: whatever becomes of the bucket, this copy stays."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path

from ops.backup import manifest
from ops.backup.manifest import PARTS, Unreadable
from ops.backup.retention import Candidate, plan_retention
from ops.config.schema import Backup as Policy
from ops.world.restic import Restic, Snapshot

# What lies beside backups, by its tag, and how many of the newest stay on the host: the pass that the next one is compared with, and
# bases of the database; the bucket has all of those.
KEPT_BESIDE = {"first-pass": 1, "base": 2}
_REUSED = "data-is-"


def prune_local(local: Restic, policy: Policy, verified: Collection[str]) -> int:
    """Remove from the host's own repository what the policy does not keep, and return how many snapshots that were.

    ``verified`` has the names of backups that were verified. Cut off anywhere, the next run goes on.
    """
    doomed = plan_prune_local(local.snapshots(), policy, verified)
    if doomed:
        local.forget(doomed)
    local.prune()
    return len(doomed)


def plan_prune_local(snapshots: Collection[Snapshot], policy: Policy, verified: Collection[str]) -> tuple[str, ...]:
    """Return the snapshots that go: of backups that the policy does not keep or that never became one, and what is old beside them."""
    backups: dict[str, set[str]] = {}
    own: dict[str, list[str]] = {}
    beside: dict[str, list[str]] = {tag: [] for tag in KEPT_BESIDE}
    there = {each.identity for each in snapshots}
    for each in snapshots:
        if identity := backup_of(each):
            backups.setdefault(identity, set()).update(set(each.tags) & set(PARTS))
            own.setdefault(identity, []).append(each.identity)
            if reused_data(each) in there:
                backups[identity].add("data")
        for tag in set(each.tags) & set(KEPT_BESIDE):
            beside[tag].append(each.identity)
    candidates = [
        Candidate(identity, manifest.moment_of(identity), whole, whole and identity in verified, lost=not whole)
        for identity, parts in backups.items()
        for whole in [parts == set(PARTS)]
    ]
    gone = [each.identity for each in plan_retention(candidates, policy) if not each.kept]
    doomed = [one for identity in gone for one in own[identity]]
    spared = shared_data(snapshots, gone)
    return (
        *(one for one in doomed if one not in spared),
        *(one for tag, count in KEPT_BESIDE.items() for one in beside[tag][:-count]),
    )


def backup_of(snapshot: Snapshot) -> str:
    """Return the name of the backup that a snapshot is a part of, or "" when it is part of none."""
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
    """Return the tag that says: the data of this backup is that snapshot, which was stored with an earlier one."""
    return f"{_REUSED}{snapshot}"


def reused_data(snapshot: Snapshot) -> str:
    """Return which snapshot, by its id where it was first stored, the backup that this one belongs to has for its data, or ""."""
    return next((tag.removeprefix(_REUSED) for tag in snapshot.tags if tag.startswith(_REUSED)), "")


def shared_data(snapshots: Iterable[Snapshot], gone: Collection[str]) -> frozenset[str]:
    """Return the snapshots, by their ids where they were first stored, that backups other than those ``gone`` have borrowed."""
    return frozenset(one for each in snapshots if backup_of(each) not in gone and (one := reused_data(each)))


def is_due(note: Path, now: datetime) -> bool:
    """Tell whether the last tidying, which ``note`` tells of, was on another day."""
    return not note.is_file() or note.read_text(encoding="utf-8") != f"{now:%Y-%m-%d}"


def done(note: Path, now: datetime) -> None:
    """Note that the host's repository was tidied today."""
    note.write_text(f"{now:%Y-%m-%d}", encoding="utf-8")
