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


class Gap(Refused):
    """A segment is missing between two that are there: what came after it can not be reached."""


@dataclass(frozen=True)
class ReplayPlan:
    """How a database is made again: a base, the files of the log that it needs, and the position to stop at.

    ``stop`` of None is the end of the log.
    """

    base: BaseBackup
    names: tuple[str, ...]
    stop: int | None


@dataclass(frozen=True)
class ShippingPlan:
    """What to do with the files of a receiver, in this order: ``encrypt`` and ``put`` by name; ``drop`` is there already."""

    drop_received: tuple[str, ...]
    encrypt: tuple[str, ...]
    drop_encrypted: tuple[str, ...]


@dataclass(frozen=True)
class WalToDelete:
    """What is no longer needed: bases, and the keys of segments."""

    bases: tuple[BaseBackup, ...]
    keys: tuple[str, ...]


def plan_shipping(received: Iterable[str], encrypted: Collection[str], shipped: Collection[str]) -> ShippingPlan:
    """Return what to do after a stop anywhere: no file is sealed twice, none put that is in the bucket, none left behind."""
    whole = sorted(name for name in received if is_finished(name))
    known = {*encrypted, *shipped}
    return ShippingPlan(
        tuple(name for name in whole if name in known),
        tuple(name for name in whole if name not in known),
        tuple(sorted(name for name in encrypted if name in shipped)),
    )


def plan_replay(bases: Iterable[BaseBackup], names: Iterable[str], system: str, target: int | None) -> ReplayPlan:
    """Return how to make the database of a position, or with a ``target`` of None the newest that there is.

    ``names`` are the segments and histories that are there of the database ``system``. Raises Refused when no base is
    old enough or the log does not reach the position, Gap naming the first segment that is missing in between.
    """
    ours = [each for each in bases if each.system == system and (target is None or each.end <= target)]
    if not ours:
        before = "" if target is None else f" from {position_as_text(target)} or before"
        raise Refused(f"there is no base of database {system}{before}", "restore the dump of a backup: ops restore")
    # By its moment: a database that was taken back writes the same positions once more.
    base = max(ours, key=lambda each: (each.moment, each.end))
    size, there = base.segment_bytes, tuple(names)
    segments = [found for name in there if (found := segment_from(name, size)) and found.timeline >= base.timeline]
    first = base.start // size
    last = max((each.number for each in segments), default=-1)
    # Of the position itself nothing is needed, but all before it.
    wanted = range(first, (last if target is None else (target - 1) // size) + 1)
    missing = sorted({*wanted} - {each.number for each in segments})
    if missing or (last + 1) * size < base.end:
        absent = Segment(missing[0] if missing else max(first, last + 1), base.timeline).name(size)
        if missing and missing[0] < last:
            raise Gap(f"the log has a gap: segment {absent} is missing", "restore the dump of a backup: ops restore")
        raise Refused(f"the log ends before segment {absent}", "ops health says whether the stream runs")
    # One more, if it is there: PostgreSQL sees by the next record that a position is reached.
    needed = {each.name(size) for each in segments if first <= each.number <= (wanted[-1] + 1 if wanted else first)}
    histories = {name for name in there if HISTORY.fullmatch(name)}
    return ReplayPlan(base, tuple(sorted(needed | histories)), None if target == (last + 1) * size else target)


def plan_wal_retention(
    bases: Iterable[BaseBackup], keys: Iterable[str], now: datetime, days: int = KEPT_DAYS
) -> WalToDelete:
    """Return what no restore to a moment of the last ``days`` needs: older bases but one, and the log before that one.

    Of a database without any base nothing is doomed: its first may be under way.
    """
    known, doomed, gone = tuple(bases), [], []
    found = [(match, key) for key in keys if (match := KEY.fullmatch(key))]
    newest = max(known, key=lambda each: each.moment, default=None)
    for system in {each.system for each in known}:
        ours = sorted((each for each in known if each.system == system), key=lambda each: each.moment)
        old = [each for each in ours if now - each.moment > timedelta(days=days)]
        # Another database's last base is older than all that may be wished for once its own successor's is.
        ended = newest is not None and newest.system != system and len(old) == len(ours)
        kept = [] if ended else ours[max(0, len(old) - 1) :]
        doomed += [each for each in ours if each not in kept]
        gone += [key for match, key in found if match["system"] == system and not _is_needed(match["name"], kept)]
    return WalToDelete(tuple(sorted(doomed, key=lambda each: each.moment)), tuple(sorted(gone)))


def base_backup_due(bases: Iterable[BaseBackup], system: str, timeline: int, now: datetime) -> bool:
    """Tell whether it is time for a base: none of this database and timeline is young enough."""
    return not any(
        (each.system, each.timeline) == (system, timeline)
        # One that is yet to come was taken by a clock that was wrong.
        and -CLOCK_DRIFT <= now - each.moment < timedelta(hours=BASE_HOURS)
        for each in bases
    )


def _is_needed(name: str, kept: Collection[BaseBackup]) -> bool:
    for base in kept:
        found = segment_from(name, base.segment_bytes)
        if found is None or found.number >= base.start // base.segment_bytes:
            return True
    return False
