"""Which backups are kept and which go, each with the reason. Time is what the backups themselves say; there is no clock here.

Grandfather, father, son: the newest, and of older ones the last of each day, week and month (UTC, ISO weeks). A day
without a backup takes no one's place: so many days are kept as have one, and an idle site keeps what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from ops.backup.manifest import Backup, Unreadable, moment_of
from ops.config.schema import Backup as Policy


@dataclass(frozen=True)
class Candidate:
    """What the decision is about: a backup's name and moment, whether all its parts are there, and whether it was verified.

    ``lost`` is one whose parts are missing for good; one that is neither whole nor lost may only be unreadable to this suite.
    """

    identity: str
    moment: datetime
    whole: bool = True
    verified: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Decision:
    """What becomes of a backup, and each reason for it in words."""

    identity: str
    kept: bool
    reasons: tuple[str, ...]


def plan_retention(candidates: Iterable[Candidate], policy: Policy) -> tuple[Decision, ...]:
    """Return the fate of every candidate, the newest first.

    Only whole backups count for the policy. The newest whole one and the newest verified one are kept whatever it says. One
    that is not whole goes when its parts are lost and a newer whole one is there; else someone has to look at it.
    """
    newest_first = sorted(candidates, key=lambda each: (each.moment, each.identity), reverse=True)
    whole = [each for each in newest_first if each.whole]
    reasons: dict[str, list[str]] = {each.identity: [] for each in newest_first}
    for words, chosen in (("newest", whole), ("newest verified", [each for each in whole if each.verified])):
        for each in chosen[:1]:
            reasons[each.identity].append(words)
    for number, each in enumerate(whole[: policy.keep_last], 1):
        reasons[each.identity].append(f"{number} of the last {policy.keep_last}")
    for kind, count, period in _periods(policy):
        for name, each in _last_of_each(whole, count, period):
            reasons[each.identity].append(f"{kind} {name}")
    return tuple(
        _fate(each, tuple(reasons[each.identity]), newest=whole[0].moment if whole else None) for each in newest_first
    )


def candidates_from(backups: Iterable[Backup]) -> tuple[Candidate, ...]:
    """Return what the decision needs to know of backups that the bucket tells of."""
    return tuple(
        Candidate(
            each.identity,
            each.manifest.moment if each.manifest else _named(each.identity),
            whole=each.manifest is not None,
            verified=each.verified is not None,
            lost=each.lost,
        )
        for each in backups
    )


def table(decisions: Iterable[Decision]) -> tuple[str, ...]:
    """Return a line for each backup: its name, what becomes of it, and why."""
    return tuple(
        f"{each.identity}  {'keep  ' if each.kept else 'REMOVE'}  {'; '.join(each.reasons)}" for each in decisions
    )


def _named(identity: str) -> datetime:
    """The moment in a broken backup's name. Anyone may have put a file with another name there: that is older than all."""
    try:
        return moment_of(identity)
    except Unreadable:
        return datetime.min.replace(tzinfo=UTC)


def _fate(candidate: Candidate, reasons: tuple[str, ...], *, newest: datetime | None) -> Decision:
    if candidate.whole:
        return Decision(candidate.identity, bool(reasons), reasons or ("no rule keeps it",))
    if candidate.lost and newest is not None and candidate.moment < newest:
        return Decision(candidate.identity, False, ("broken: parts are missing, and a newer backup is whole",))
    return Decision(candidate.identity, True, ("broken: look at it (ops backup list)",))


def _periods(policy: Policy) -> tuple[tuple[str, int, Callable[[datetime], str]], ...]:
    return (
        ("day", policy.keep_daily, lambda moment: f"{moment:%Y-%m-%d}"),
        ("week", policy.keep_weekly, lambda moment: f"{moment:%G-W%V}"),
        ("month", policy.keep_monthly, lambda moment: f"{moment:%Y-%m}"),
    )


def _last_of_each(
    whole: Iterable[Candidate], count: int, period: Callable[[datetime], str]
) -> list[tuple[str, Candidate]]:
    """The last backup of each of the newest ``count`` periods that have one; ``whole`` comes newest first."""
    found: dict[str, Candidate] = {}
    for each in whole:
        found.setdefault(period(each.moment), each)
    return list(found.items())[:count]
