"""Base backups and WAL segments for the tests of the WAL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ops.wal import segments
from ops.wal.segments import BaseBackup, Segment

NOW = datetime(2026, 11, 25, 18, 0, tzinfo=UTC)
SIZE = segments.SEGMENT_BYTES
OURS = "7345"


def base(first: int, *, hours: float = 1, timeline: int = 1, system: str = OURS) -> BaseBackup:
    """Return a base backup that begins and ends in segment ``first``."""
    moment = NOW - timedelta(hours=hours)
    start = first * SIZE + 0x28
    return BaseBackup(f"b{first}", system, timeline, start, start + 0x100, moment, "local", "remote", 1000, "18.6")


def names(*numbers: int, timeline: int = 1) -> list[str]:
    """Return the names of the segments with these numbers."""
    return [Segment(number, timeline).name() for number in numbers]
