"""What was proven of the site's backups, and when: records that the bucket keeps, and what follows from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from ops.backup.manifest import Backup
from ops.errors import OpsError
from ops.model import CLOCK_DRIFT

DRILLS, VERIFICATIONS = "drills/", "verifications/"
# A verification reads one of so many shares of the packs: a week of daily ones reads every pack.
SHARES = 7
# A daily timer that missed one day is no alarm; one that missed two is.
VERIFIED_WITHIN = timedelta(days=2)
READ_WITHIN = timedelta(days=SHARES + 2)
# Whether a drill is due is asked once a day.
DRILLED_LATER = timedelta(days=1)


@dataclass(frozen=True)
class Drill:
    """What a drill came to.

    ``rto_seconds`` is from its begin until the scratch site was healthy, ``rpo_seconds`` how old the backup was at its
    begin: how long a site that is lost then is away, and how much of it is lost. ``findings`` are what was wrong, each in
    words; none is a drill that was passed. ``durations`` has the seconds of each step.
    """

    began: datetime
    identity: str
    rto_seconds: float
    rpo_seconds: float
    findings: tuple[str, ...] = ()
    durations: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the backup became a site that is what its manifest says."""
        return not self.findings


@dataclass(frozen=True)
class Verification:
    """What a verification came to: the backup that was compared with its manifest, and which of SHARES of the packs was read.

    ``findings`` are what was wrong, each in words; none is one that was passed. ``durations`` has the seconds of each step.
    """

    began: datetime
    identity: str
    share: int
    findings: tuple[str, ...] = ()
    durations: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether everything that was read is what was once stored."""
        return not self.findings


_Record = TypeVar("_Record", Drill, Verification)


def key_of(prefix: str, began: datetime) -> str:
    """Return the bucket's key of a record; keys sort as time does."""
    return f"{prefix}{began:%Y%m%dT%H%M%SZ}.json"


def to_json(made: Drill | Verification) -> bytes:
    """Return a record as the bucket keeps it."""
    document = {"schema": 1, "passed": made.passed, **dataclasses.asdict(made), "began": made.began.isoformat()}
    return json.dumps(document, indent=1, sort_keys=True).encode()


def drill_from_json(content: bytes) -> Drill:
    """Return a drill that the bucket keeps; raises OpsError for one that is cut off or not ours."""
    try:
        known = json.loads(content)
        return Drill(
            datetime.fromisoformat(known["began"]),
            known["identity"],
            known["rto_seconds"],
            known["rpo_seconds"],
            tuple(known["findings"]),
            known["durations"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OpsError(
            "a drill's record is cut off or not one of ours", "ops restore --drill makes a new one"
        ) from error


def verification_from_json(content: bytes) -> Verification:
    """Return a verification that the bucket keeps; raises OpsError for one that is cut off or not ours."""
    try:
        known = json.loads(content)
        return Verification(
            datetime.fromisoformat(known["began"]),
            known["identity"],
            known["share"],
            tuple(known["findings"]),
            known["durations"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OpsError(
            "a verification's record is cut off or not one of ours", "ops backup verify makes a new one"
        ) from error


def due(drills: Iterable[Drill], days: int, now: datetime) -> bool:
    """Tell whether it is time for a drill: the last one failed, or is so many days ago, less the half day a timer may be late."""
    last = max(_past(drills, now), key=lambda each: each.began, default=None)
    return last is None or not last.passed or now - last.began >= timedelta(days=days - 0.5)


def choose_share(verifications: Iterable[Verification], now: datetime) -> int:
    """Return which share of the packs is to be read: one that never was, else the one that was read longest ago."""
    read = dict.fromkeys(range(1, SHARES + 1), "")
    for each in _past(verifications, now):
        if each.share in read:
            read[each.share] = max(read[each.share], each.began.isoformat())
    return min(read, key=lambda share: (read[share], share))


def check_drills(drills: Sequence[Drill], days: int, since: datetime | None, now: datetime) -> str:
    """Return why nothing should rely on the backups for want of a passed drill, or "".

    ``since`` is the moment of the oldest backup, None while there is none: a site that has just begun owes no drill yet.
    """
    last = max(_past(drills, now), key=lambda each: each.began, default=None)
    if last and not last.passed:
        return f"the drill of {last.began:%Y-%m-%d %H:%M} UTC failed: {last.findings[0]}"
    begun = last.began if last else since
    if begun is None or now - begun <= timedelta(days=days) + DRILLED_LATER:
        return ""
    if last:
        return f"the last drill was {(now - last.began).days} days ago, and backup.drill_days is {days}"
    return "no backup was ever restored for practice"


def check_verifications(verifications: Sequence[Verification], since: datetime | None, now: datetime) -> str:
    """Return why nothing should rely on what lies in the bucket for want of a passed verification, or "".

    ``since`` is the moment of the oldest backup, None while there is none.
    """
    verifications = _past(verifications, now)
    last = max(verifications, key=lambda each: each.began, default=None)
    if last and not last.passed:
        return f"the verification of {last.began:%Y-%m-%d %H:%M} UTC failed: {last.findings[0]}"
    begun = last.began if last else since
    if begun is None:
        return ""
    if now - begun > VERIFIED_WITHIN:
        return (
            f"the last verification was {(now - last.began).days} days ago" if last else "no backup was ever verified"
        )
    return _unread(verifications, since or begun, now)


def _past(records: Iterable[_Record], now: datetime) -> list[_Record]:
    """Those that a clock that was wrong has not put into time to come: they would be the newest until then."""
    return [each for each in records if each.began <= now + CLOCK_DRIFT]


def _unread(verifications: Iterable[Verification], since: datetime, now: datetime) -> str:
    read = dict.fromkeys(range(1, SHARES + 1), since)
    for each in verifications:
        if each.share in read:
            read[each.share] = max(read[each.share], each.began)
    late = [f"{share}/{SHARES}" for share, when in read.items() if now - when > READ_WITHIN]
    return f"no one has read share {', '.join(late)} of the packs for {READ_WITHIN.days} days" if late else ""


def with_records(
    backups: Iterable[Backup], verifications: Iterable[Verification], drills: Iterable[Drill]
) -> tuple[Backup, ...]:
    """Return the backups with the moments at which each was last verified and drilled, passed ones alone."""
    verified = {each.identity: each.began for each in sorted(verifications, key=lambda one: one.began) if each.passed}
    drilled = {each.identity: each.began for each in sorted(drills, key=lambda one: one.began) if each.passed}
    return tuple(
        dataclasses.replace(each, verified=verified.get(each.identity), drilled=drilled.get(each.identity))
        for each in backups
    )
