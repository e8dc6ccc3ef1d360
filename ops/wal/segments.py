"""The database's write-ahead log as it lies in the bucket: what its segments are called, and which of them make a database.

A segment is a piece of the log, always of one size; a position (LSN) is a byte of it. A base is a copy of the database's
files: with every segment from its start on, it becomes the database of any later position.
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
# Whatever was written for so long is on its way to the bucket: less than the minute that may be lost.
SWITCH_SECONDS = 30.0
PROBE = "database log"
LATE = timedelta(minutes=3)
BASE_HOURS = 24
KEPT_DAYS = 14
_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
HISTORY = re.compile(r"([0-9A-F]{8})\.history")
KEY = re.compile(rf"{PREFIX}(?P<system>\d+)/[0-9A-F]{{8}}/(?P<name>[0-9A-F]{{24}}|[0-9A-F]{{8}}\.history)")
_SCHEMA = 1


@dataclass(frozen=True, order=True)
class Segment:
    """One piece of the log, by its number from the log's very beginning, and the timeline that it was written on."""

    number: int
    timeline: int

    def name(self, size: int = SEGMENT_BYTES) -> str:
        """Return what PostgreSQL calls it (src/include/access/xlog_internal.h, XLogFileName)."""
        high, low = divmod(self.number, 2**32 // size)
        return f"{self.timeline:08X}{high:08X}{low:08X}"


@dataclass(frozen=True)
class BaseBackup:
    """A copy of the database's files, as the bucket tells of it.

    It needs the log from position ``start`` on, and is a database from ``end`` on. ``local`` and ``remote`` are its
    snapshots in the two restic repositories, ``size`` its bytes, ``segment_bytes`` the size of the log's segments.
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
    """What the stream says of itself: all that was committed until ``covered`` is in the bucket.

    ``system`` is the database's own number, ``shipped`` the last segment that arrived, ``trouble`` what hinders it now.
    """

    system: str
    covered: datetime
    shipped: str
    trouble: str = ""


@dataclass(frozen=True)
class Waiting:
    """Where the log of one database waits on a host: as it is received, and sealed for the bucket."""

    folder: Path

    @property
    def received(self) -> Path:
        """What pg_receivewal writes; the segment that is not whole yet ends in .partial."""
        return self.folder / "received"

    @property
    def encrypted(self) -> Path:
        """What goes to the bucket as it is."""
        return self.folder / "sealed"


@dataclass(frozen=True)
class Coverage:
    """How far the bucket keeps up with the database. ``covered`` is the moment until which it has all that was committed.

    ``seen`` is which transactions were over when the segment was last switched, at ``switched``; ``waiting`` is the
    segment that has to arrive before the bucket has them.
    """

    covered: datetime | None = None
    seen: str = ""
    switched: datetime | None = None
    waiting: str = ""

    def wants_switch(self, transactions: str, now: datetime) -> bool:
        """Tell whether what was written since the last switch has to be sent on its way. An idle database needs none."""
        # A switch that is yet to come was made by a clock that has been set back since.
        rested = self.switched is None or not 0 <= (now - self.switched).total_seconds() < SWITCH_SECONDS
        return rested and not self.waiting and transactions != self.seen

    def after_switch(self, transactions: str, segment: str, now: datetime) -> Coverage:
        """Return the coverage once the segment that has all of ``transactions`` was ended at ``now``."""
        return Coverage(self.covered, transactions, now, segment)

    def after_look(self, transactions: str, shipped: str, now: datetime) -> Coverage:
        """Return the coverage once ``shipped`` was the last segment that arrived, and these transactions were over."""
        if self.waiting and shipped >= self.waiting:
            return Coverage(self.switched, self.seen, self.switched, "")
        if self.seen == transactions and not self.waiting:
            return Coverage(now, self.seen, self.switched, "")
        return self


def position_from(text: str) -> int:
    """Return the position that PostgreSQL writes as 16/B374D848."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def position_as_text(position: int) -> str:
    """Return a position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def segment_from(name: str, size: int = SEGMENT_BYTES) -> Segment | None:
    """Return the segment of a file's name, or None for a file that is no whole segment."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    timeline, high, low = (int(part, 16) for part in found.groups())
    return Segment(high * (2**32 // size) + low, timeline)


def segment_before(position: int, timeline: int, size: int = SEGMENT_BYTES) -> Segment:
    """Return the segment that the byte before a position lies in."""
    return Segment((position - 1) // size, timeline)


def is_finished(name: str) -> bool:
    """Tell whether a receiver's file is whole: a segment, or the history of a timeline."""
    return bool(_NAME.fullmatch(name) or HISTORY.fullmatch(name))


def is_reverted(known: Iterable[str], here: Segment, size: int = SEGMENT_BYTES) -> bool:
    """Tell whether a database that writes ``here`` wrote segments before that are still to come: a disk of earlier is back."""
    found = (segment_from(name, size) for name in known)
    return any(each.timeline == here.timeline and each.number > here.number for each in found if each)


def last_before(names: Iterable[str], here: Segment, size: int = SEGMENT_BYTES) -> str:
    """Return the name of the last segment before ``here``, "" when there is none."""
    found = (segment_from(name, size) for name in names)
    return max((each.name(size) for each in found if each and each.number < here.number), default="")


def key_of(system: str, name: str) -> str:
    """Return the bucket's key of a segment or history: below the number of its database, and its timeline."""
    return f"{PREFIX}{system}/{name[:8]}/{name}"


def name_from(key: str) -> str:
    """Return the name of the segment or history that lies under a key."""
    return key.rpartition("/")[2]


def check_stream(known: Streamed | None, now: datetime) -> Probe:
    """Return whether the database's log arrives in the bucket: red when what is not there yet is older than LATE."""
    remedy = "journalctl --unit gitea-suite-wal; systemctl restart gitea-suite-wal"
    if known is None:
        return Probe(PROBE, False, "none has arrived in the bucket yet", remedy)
    age = (now - known.covered).total_seconds()
    trouble = f": {known.trouble}" if known.trouble else ""
    return Probe(PROBE, abs(age) <= LATE.total_seconds(), f"in the bucket until {age:.0f} s ago{trouble}", remedy)


def base_to_json(base: BaseBackup) -> bytes:
    """Return a base as the bucket keeps it."""
    document = {"schema": _SCHEMA, **dataclasses.asdict(base), "moment": base.moment.isoformat()}
    return json.dumps(document, indent=1, sort_keys=True).encode()


def base_from_json(content: bytes) -> BaseBackup:
    """Return a base that the bucket keeps; raises OpsError for one that is cut off, foreign or newer."""
    try:
        document = json.loads(content)
        if document.pop("schema") != _SCHEMA:
            raise OpsError("a base's record was written by a newer suite", "use that one")
        return BaseBackup(**document | {"moment": datetime.fromisoformat(document["moment"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OpsError("a base's record is cut off or not one of ours", "ops backup take makes a new one") from error


def state_to_json(state: Streamed) -> str:
    """Return what the stream says of itself as it is kept on the host."""
    return json.dumps(dataclasses.asdict(state) | {"covered": state.covered.isoformat()}, sort_keys=True)


def state_from_json(text: str) -> Streamed | None:
    """Return what the stream said of itself, or None when it said nothing that can be read."""
    try:
        document = json.loads(text)
        return Streamed(**document | {"covered": datetime.fromisoformat(document["covered"])})
    except (ValueError, TypeError, KeyError):
        return None
