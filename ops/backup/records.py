"""Records of drills and verifications in the bucket, and the decisions that follow from them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from ops.backup.manifest import Backup
from ops.errors import OpsError
from ops.model import CLOCK_DRIFT

DRILLS, VERIFICATIONS, PRUNES = "drills/", "verifications/", "prunes/"
# A verification reads one of this many shares of the packs: a week of daily runs reads every pack.
SHARES = 7
# A daily timer may miss one day without an alarm, but not two.
VERIFIED_WITHIN = timedelta(days=2)
READ_WITHIN = timedelta(days=SHARES + 2)
# A timer starts a due drill once a day.
DRILLED_LATER = timedelta(days=1)
# Each day leaves some 300 snapshots in the bucket.
PRUNED_WITHIN = timedelta(days=30)
# Findings of a drill about one repository or the use of the copy; all others say that the backup cannot be restored as it was
# made.
_ACCEPTABLE = re.compile(
    r"git fsck of \S+: |repository \S+ is in the database and not in the data|\S+ cannot be cloned: |\S+ cannot sign in: "
)


@dataclass(frozen=True)
class Drill:
    """The result of a drill.

    ``rto_seconds`` is the time from its start until the scratch site was healthy: the downtime after a loss of the site.
    ``rpo_seconds`` is the age of the backup at the start: the time whose changes are lost. ``findings`` has each fault as
    text; a drill without findings passed. ``durations`` has the seconds of each step. ``accepted`` has the findings that an
    operator accepted, in this drill or an earlier one. ``notes`` has observations that are no faults.
    """

    began: datetime
    identity: str
    rto_seconds: float
    rpo_seconds: float
    findings: tuple[str, ...] = ()
    durations: Mapping[str, float] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the restored site matched the backup's manifest."""
        return not self.findings


@dataclass(frozen=True)
class Verification:
    """The result of a verification: the backup compared with its manifest, and which of SHARES of the packs was read.

    ``findings`` has each fault as text; a verification without findings passed. ``durations`` has the seconds of each step.
    """

    began: datetime
    identity: str
    share: int
    findings: tuple[str, ...] = ()
    durations: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether everything that was read equals what was stored."""
        return not self.findings


_Record = TypeVar("_Record", Drill, Verification)
# Left out of a record while they are empty, as in records from before they existed.
_OPTIONAL = ("accepted", "notes")


def key_of(prefix: str, began: datetime) -> str:
    """Return the bucket's key of a record; keys sort by time."""
    return f"{prefix}{began:%Y%m%dT%H%M%SZ}.json"


def to_json(made: Drill | Verification) -> bytes:
    """Return a record as stored in the bucket."""
    document = {"schema": 1, "passed": made.passed, **dataclasses.asdict(made), "began": made.began.isoformat()}
    for name in _OPTIONAL:
        if not document.get(name):
            document.pop(name, None)
    return json.dumps(document, indent=1, sort_keys=True).encode()


def drill_from_json(content: bytes) -> Drill:
    """Return a drill's record from the bucket; raises OpsError for one that is truncated or foreign."""
    try:
        document = json.loads(content)
        return Drill(
            datetime.fromisoformat(document["began"]),
            document["identity"],
            document["rto_seconds"],
            document["rpo_seconds"],
            tuple(document["findings"]),
            document["durations"],
            tuple(document.get("accepted", ())),
            tuple(document.get("notes", ())),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OpsError(
            "a drill's record is truncated or foreign", "run ops restore --drill to write a new one"
        ) from error


def verification_from_json(content: bytes) -> Verification:
    """Return a verification's record from the bucket; raises OpsError for one that is truncated or foreign."""
    try:
        document = json.loads(content)
        return Verification(
            datetime.fromisoformat(document["began"]),
            document["identity"],
            document["share"],
            tuple(document["findings"]),
            document["durations"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OpsError(
            "a verification's record is truncated or foreign", "run ops backup verify to write a new one"
        ) from error


def due(drills: Iterable[Drill], days: int, now: datetime) -> bool:
    """Return whether a drill is due: the last one failed, or is ``days`` old, less half a day because a timer may be late."""
    last = max(_past(drills, now), key=lambda each: each.began, default=None)
    return last is None or not last.passed or now - last.began >= timedelta(days=days - 0.5)


def choose_share(verifications: Iterable[Verification], now: datetime) -> int:
    """Return the share of the packs to read next: one that was never read, else the one read longest ago."""
    read = dict.fromkeys(range(1, SHARES + 1), "")
    for each in _past(verifications, now):
        if each.share in read:
            read[each.share] = max(read[each.share], each.began.isoformat())
    return min(read, key=lambda share: (read[share], share))


def check_drills(drills: Sequence[Drill], days: int, since: datetime | None, now: datetime) -> str:
    """Return why the backups are not reliable before a drill passes, or "".

    ``since`` is the moment of the oldest backup, None without backups: on a new site no drill is due yet.
    """
    last = max(_past(drills, now), key=lambda each: each.began, default=None)
    if last and not last.passed:
        return f"the drill of {last.began:%Y-%m-%d %H:%M} UTC failed: {last.findings[0]}"
    begun = last.began if last else since
    if begun is None or now - begun <= timedelta(days=days) + DRILLED_LATER:
        return ""
    if last:
        return f"the last drill was {(now - last.began).days} days ago, and backup.drill_days is {days}"
    return "no drill has restored a backup yet"


def drill_remedy(drills: Sequence[Drill], now: datetime) -> str:
    """Return the command for a drill that failed or is overdue; it names ``--accept`` if every finding may be accepted."""
    last = max(_past(drills, now), key=lambda each: each.began, default=None)
    findings = last.findings if last else ()
    if not findings or not all(map(is_acceptable, findings)):
        return "ops restore --drill"
    return "ops restore --drill, with --accept if its findings are known and no loss"


def is_acceptable(finding: str) -> bool:
    """Return whether an operator may accept a drill's finding, because it may be as old as the repository."""
    return _ACCEPTABLE.match(finding) is not None


def check_verifications(verifications: Sequence[Verification], since: datetime | None, now: datetime) -> str:
    """Return why the backups in the bucket are not reliable before a verification passes, or "".

    ``since`` is the moment of the oldest backup, None without backups.
    """
    verifications = _past(verifications, now)
    last = max(verifications, key=lambda each: each.began, default=None)
    if last and not last.passed:
        return f"the verification of {last.began:%Y-%m-%d %H:%M} UTC failed: {last.findings[0]}"
    begun = last.began if last else since
    if begun is None:
        return ""
    if now - begun > VERIFIED_WITHIN:
        return f"the last verification was {(now - last.began).days} days ago" if last else "no backup was verified yet"
    return _unread(verifications, since or begun, now)


def prune_to_json(began: datetime, removed: int) -> bytes:
    """Return the bucket's record of a completed prune that removed this number of backups."""
    return json.dumps({"schema": 1, "began": began.isoformat(), "removed": removed}, sort_keys=True).encode()


def check_prune(last: datetime | None, since: datetime | None, now: datetime) -> str:
    """Return why the operator has to prune the bucket, or "".

    ``last`` is when the last prune began, None for none; ``since`` is the moment of the oldest backup, None for none.
    """
    start = last or since
    if start is None or now - start <= PRUNED_WITHIN:
        return ""
    days = (now - start).days
    return f"the last prune was {days} days ago" if last else f"no prune in the {days} days since the oldest backup"


def _past(records: Iterable[_Record], now: datetime) -> list[_Record]:
    """Drop records that a wrong clock dated into the future: until then they would be the newest."""
    return [each for each in records if each.began <= now + CLOCK_DRIFT]


def _unread(verifications: Iterable[Verification], since: datetime, now: datetime) -> str:
    read = dict.fromkeys(range(1, SHARES + 1), since)
    for each in verifications:
        if each.share in read:
            read[each.share] = max(read[each.share], each.began)
    late = [f"{share}/{SHARES}" for share, when in read.items() if now - when > READ_WITHIN]
    return f"share {', '.join(late)} of the packs was not read for {READ_WITHIN.days} days" if late else ""


def with_records(
    backups: Iterable[Backup], verifications: Iterable[Verification], drills: Iterable[Drill]
) -> tuple[Backup, ...]:
    """Return the backups with the moments of the last verification and the last drill that each passed."""
    verified = {each.identity: each.began for each in sorted(verifications, key=lambda one: one.began) if each.passed}
    drilled = {each.identity: each.began for each in sorted(drills, key=lambda one: one.began) if each.passed}
    return tuple(
        dataclasses.replace(each, verified=verified.get(each.identity), drilled=drilled.get(each.identity))
        for each in backups
    )
