"""Decisions about the WAL: what to ship, how to replay, what to delete."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ops.errors import Refused
from ops.model import CLOCK_DRIFT
from ops.wal.segments import (
    BASE_HOURS,
    HISTORY,
    KEPT_DAYS,
    KEY,
    BaseBackup,
    Segment,
    is_finished,
    position_as_text,
    segment_from,
)

_RESTORE_DUMP = "restore the dump of a backup instead: ops restore"


class Gap(Refused):
    """A segment is missing between two available ones: the positions behind it cannot be recovered."""


@dataclass(frozen=True)
class ReplayPlan:
    """How to recover a database: a base backup, the WAL files that it needs, and the position to stop at.

    ``stop`` is None for the end of the WAL.
    """

    base: BaseBackup
    names: tuple[str, ...]
    stop: int | None


@dataclass(frozen=True)
class ShippingPlan:
    """What to do with WAL files, by name and in this order.

    ``drop_received`` are files that are already encrypted or in the bucket, ``encrypt`` files to encrypt and then upload,
    ``drop_encrypted`` encrypted files that are already in the bucket.
    """

    drop_received: tuple[str, ...]
    encrypt: tuple[str, ...]
    drop_encrypted: tuple[str, ...]


@dataclass(frozen=True)
class WalToDelete:
    """What is no longer needed: base backups, and the keys of WAL files."""

    bases: tuple[BaseBackup, ...]
    keys: tuple[str, ...]


def plan_shipping(received: Iterable[str], encrypted: Collection[str], shipped: Collection[str]) -> ShippingPlan:
    """Return what to do with WAL files after an interruption at any point.

    No file is encrypted twice, uploaded although it is in the bucket, or left behind.
    """
    finished = sorted(name for name in received if is_finished(name))
    done = {*encrypted, *shipped}
    return ShippingPlan(
        tuple(name for name in finished if name in done),
        tuple(name for name in finished if name not in done),
        tuple(sorted(name for name in encrypted if name in shipped)),
    )


def plan_replay(
    base_backups: Iterable[BaseBackup], names: Iterable[str], system: str, target: int | None
) -> ReplayPlan:
    """Return how to recover the database at position ``target``, or at the end of the WAL for None.

    ``names`` are the available segments and timeline history files of the database ``system``. Raises Refused when no base
    backup is old enough or the WAL ends before the position, and Gap with the first segment that is missing in between.
    """
    base = _newest_base_backup(base_backups, system, target)
    size, available = base.segment_bytes, tuple(names)
    segments = _usable_segments(base, available)
    first, last = base.start // size, max((each.number for each in segments), default=-1)
    # The byte at the position itself is not needed, only the bytes before it.
    end = last if target is None else (target - 1) // size
    _require_segments(base, {each.number for each in segments}, range(first, end + 1), last)
    # One more if available: PostgreSQL sees by the next record that it has reached the position.
    needed = {each.name(size) for each in segments if first <= each.number <= max(first, end + 1)}
    histories = {name for name in available if HISTORY.fullmatch(name)}
    return ReplayPlan(base, tuple(sorted(needed | histories)), None if target == (last + 1) * size else target)


def plan_wal_retention(
    base_backups: Iterable[BaseBackup], keys: Iterable[str], now: datetime, days: int = KEPT_DAYS
) -> WalToDelete:
    """Return the base backups and WAL that no restore to a moment of the last ``days`` needs.

    The newest base backup before those days is kept with all WAL since its start. The WAL of a database without a base
    backup is kept: its first one may be under way.
    """
    available = tuple(base_backups)
    kept = {system: _kept_base_backups(available, system, now, days) for system in {each.system for each in available}}
    to_delete = [each for each in available if each not in kept[each.system]]
    unneeded = [
        key
        for key in keys
        if (match := KEY.fullmatch(key)) and not _is_needed(match["name"], kept.get(match["system"]))
    ]
    return WalToDelete(tuple(sorted(to_delete, key=lambda each: each.moment)), tuple(sorted(unneeded)))


def base_backup_due(base_backups: Iterable[BaseBackup], system: str, timeline: int, now: datetime) -> bool:
    """Return whether a base backup is due: no recent one of this database and timeline exists."""
    return not any(
        (each.system, each.timeline) == (system, timeline)
        # A moment in the future comes from a clock that was wrong.
        and -CLOCK_DRIFT <= now - each.moment < timedelta(hours=BASE_HOURS)
        for each in base_backups
    )


def _newest_base_backup(base_backups: Iterable[BaseBackup], system: str, target: int | None) -> BaseBackup:
    """Return the newest base backup of a database that ended at or before a position."""
    usable = [each for each in base_backups if each.system == system and (target is None or each.end <= target)]
    if not usable:
        before = "" if target is None else f" at or before {position_as_text(target)}"
        raise Refused(f"there is no base backup of database {system}{before}", _RESTORE_DUMP)
    # By moment, not by position: a database that was set back to an earlier state writes the same positions again.
    return max(usable, key=lambda each: (each.moment, each.end))


def _usable_segments(base: BaseBackup, names: Iterable[str]) -> tuple[Segment, ...]:
    found = (segment_from(name, base.segment_bytes) for name in names)
    return tuple(each for each in found if each and each.timeline >= base.timeline)


def _require_segments(base: BaseBackup, available: Collection[int], wanted: range, last: int) -> None:
    """Raise Gap or Refused, with the first missing segment, unless the base backup and ``wanted`` segments make a database."""
    missing = next((number for number in wanted if number not in available), None)
    if missing is None and (last + 1) * base.segment_bytes < base.end:
        missing = max(wanted.start, last + 1)
    if missing is None:
        return
    name = Segment(missing, base.timeline).name(base.segment_bytes)
    if missing < last:
        raise Gap(f"the WAL has a gap: segment {name} is missing", _RESTORE_DUMP)
    raise Refused(f"the WAL ends before segment {name}", "run ops health to see whether the WAL stream runs")


def _kept_base_backups(
    base_backups: Collection[BaseBackup], system: str, now: datetime, days: int
) -> tuple[BaseBackup, ...]:
    """Return the base backups of one database that a restore to one of the last ``days`` may need."""
    ours = sorted((each for each in base_backups if each.system == system), key=lambda each: each.moment)
    old = [each for each in ours if now - each.moment > timedelta(days=days)]
    newest = max(base_backups, key=lambda each: each.moment)
    # A former database's WAL goes once its last base backup is older than the kept days.
    if len(old) == len(ours) and newest.system != system:
        return ()
    return tuple(ours[max(0, len(old) - 1) :])


def _is_needed(name: str, kept: Collection[BaseBackup] | None) -> bool:
    """Return whether a segment or history file is needed by the ``kept`` base backups; None for a database without any."""
    if kept is None:
        return True
    return any(
        found is None or found.number >= base.start // base.segment_bytes
        for base in kept
        for found in [segment_from(name, base.segment_bytes)]
    )
