"""The write-ahead log (WAL) in the bucket: segment names, positions, base backup records, and the state of the stream.

The WAL is divided into segments of one size; a position (LSN) is the number of a byte in it. A base backup is a copy of the
database's files: with every segment from its start on, it can be recovered to any later position.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ops.errors import OpsError
from ops.model import Probe

PREFIX, BASES = "wal/", "bases/"
PARTIAL = ".partial"
SEGMENT_BYTES = 2**24
# A segment with changes is switched after this time at the latest: changes of at most one minute may be lost.
SWITCH_SECONDS = 30.0
PROBE = "WAL stream"
LATE = timedelta(minutes=3)
BASE_HOURS = 24
KEPT_DAYS = 14
_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
HISTORY = re.compile(r"([0-9A-F]{8})\.history")
KEY = re.compile(rf"{PREFIX}(?P<system>\d+)/[0-9A-F]{{8}}/(?P<name>[0-9A-F]{{24}}|[0-9A-F]{{8}}\.history)")
_SCHEMA = 1


@dataclass(frozen=True, order=True)
class Segment:
    """One segment, by its number from the beginning of the WAL and its timeline."""

    number: int
    timeline: int

    def name(self, size: int = SEGMENT_BYTES) -> str:
        """Return PostgreSQL's name for it (src/include/access/xlog_internal.h, XLogFileName)."""
        high, low = divmod(self.number, 2**32 // size)
        return f"{self.timeline:08X}{high:08X}{low:08X}"


@dataclass(frozen=True)
class BaseBackup:
    """The record of a base backup: a copy of the database's files.

    Recovery needs the WAL from position ``start`` on, and the database is consistent from ``end`` on. ``local`` and
    ``remote`` are its snapshots in the two restic repositories, ``size`` is in bytes, and ``segment_bytes`` is the size of a
    segment.
    """

    identity: str
    system: str
    timeline: int
    start: int
    end: int
    moment: datetime
    local: str
    remote: str
    size: int
    version: str
    segment_bytes: int = SEGMENT_BYTES


@dataclass(frozen=True)
class Streamed:
    """The state of the stream: all transactions committed until ``covered`` are in the bucket.

    ``system`` is the database's system identifier, ``shipped`` the last uploaded segment, ``trouble`` the current error or "".
    """

    system: str
    covered: datetime
    shipped: str
    trouble: str = ""


@dataclass(frozen=True)
class Waiting:
    """The folders of one database's WAL on a host: received files, and encrypted ones that wait for the upload."""

    folder: Path

    @property
    def received(self) -> Path:
        """The files that pg_receivewal writes; an unfinished segment ends in .partial."""
        return self.folder / "received"

    @property
    def encrypted(self) -> Path:
        """The files to upload as they are."""
        return self.folder / "sealed"


@dataclass(frozen=True)
class Coverage:
    """How far the bucket keeps up with the database: it has all transactions committed until ``covered``.

    ``seen`` is PostgreSQL's snapshot of finished transactions at the last segment switch, ``switched`` its time. ``waiting``
    is the segment that has to be uploaded before the bucket has these transactions, or "".
    """

    covered: datetime | None = None
    seen: str = ""
    switched: datetime | None = None
    waiting: str = ""

    def wants_switch(self, transactions: str, now: datetime) -> bool:
        """Return whether to switch the segment because of new transactions. An idle database needs no switch."""
        # A switch in the future means that the clock was set back since.
        rested = self.switched is None or not 0 <= (now - self.switched).total_seconds() < SWITCH_SECONDS
        return rested and not self.waiting and transactions != self.seen

    def after_switch(self, transactions: str, segment: str, now: datetime) -> Coverage:
        """Return the coverage after a switch at ``now`` of the segment that has all of ``transactions``."""
        return Coverage(self.covered, transactions, now, segment)

    def after_poll(self, transactions: str, shipped: str, now: datetime) -> Coverage:
        """Return the coverage at ``now``, with the last uploaded segment and PostgreSQL's snapshot of transactions."""
        if self.waiting and shipped >= self.waiting:
            return Coverage(self.switched, self.seen, self.switched, "")
        if self.seen == transactions and not self.waiting:
            return Coverage(now, self.seen, self.switched, "")
        return self


def position_from(text: str) -> int:
    """Return the position that PostgreSQL writes like 16/B374D848."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def position_as_text(position: int) -> str:
    """Return a position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def segment_from(name: str, size: int = SEGMENT_BYTES) -> Segment | None:
    """Return the segment of a file name, or None for a file that is not a finished segment."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    timeline, high, low = (int(part, 16) for part in found.groups())
    return Segment(high * (2**32 // size) + low, timeline)


def segment_before(position: int, timeline: int, size: int = SEGMENT_BYTES) -> Segment:
    """Return the segment with the byte before a position."""
    return Segment((position - 1) // size, timeline)


def is_finished(name: str) -> bool:
    """Return whether a received file is finished: a segment, or a timeline history file."""
    return bool(_NAME.fullmatch(name) or HISTORY.fullmatch(name))


def is_reverted(written: Iterable[str], current: Segment, size: int = SEGMENT_BYTES) -> bool:
    """Return whether a segment after ``current`` was already written: then the disk was set back to an earlier state."""
    found = (segment_from(name, size) for name in written)
    return any(each.timeline == current.timeline and each.number > current.number for each in found if each)


def last_before(names: Iterable[str], current: Segment, size: int = SEGMENT_BYTES) -> str:
    """Return the name of the last segment before ``current``, or ""."""
    found = (segment_from(name, size) for name in names)
    return max((each.name(size) for each in found if each and each.number < current.number), default="")


def key_of(system: str, name: str) -> str:
    """Return the bucket's key of a segment or history file: below its database's system identifier and its timeline."""
    return f"{PREFIX}{system}/{name[:8]}/{name}"


def name_from(key: str) -> str:
    """Return the name of the segment or history file of a key."""
    return key.rpartition("/")[2]


def check_stream(state: Streamed | None, now: datetime) -> Probe:
    """Return whether the WAL arrives in the bucket: red when changes older than LATE are not there."""
    remedy = "read journalctl --unit gitea-suite-wal, then run systemctl restart gitea-suite-wal"
    if state is None:
        return Probe(PROBE, False, "no WAL has arrived in the bucket yet", remedy)
    age = (now - state.covered).total_seconds()
    trouble = f": {state.trouble}" if state.trouble else ""
    return Probe(PROBE, abs(age) <= LATE.total_seconds(), f"in the bucket until {age:.0f} s ago{trouble}", remedy)


def base_to_json(base: BaseBackup) -> bytes:
    """Return the record of a base backup as stored in the bucket."""
    document = {"schema": _SCHEMA, **dataclasses.asdict(base), "moment": base.moment.isoformat()}
    return json.dumps(document, indent=1, sort_keys=True).encode()


def base_from_json(content: bytes) -> BaseBackup:
    """Return the record of a base backup from the bucket; raises OpsError for one that is truncated, foreign or newer."""
    try:
        document = json.loads(content)
        if document.pop("schema") != _SCHEMA:
            raise OpsError("the record of a base backup was written by a newer suite", "use that suite")
        return BaseBackup(**document | {"moment": datetime.fromisoformat(document["moment"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OpsError(
            "the record of a base backup is truncated or foreign", "run ops backup take for a new base backup"
        ) from error


def state_to_json(state: Streamed) -> str:
    """Return the state of the stream as stored on the host."""
    return json.dumps(dataclasses.asdict(state) | {"covered": state.covered.isoformat()}, sort_keys=True)


def state_from_json(text: str) -> Streamed | None:
    """Return the state of the stream, or None if it is unreadable."""
    try:
        document = json.loads(text)
        return Streamed(**document | {"covered": datetime.fromisoformat(document["covered"])})
    except (ValueError, TypeError, KeyError):
        return None
