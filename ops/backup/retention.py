"""Decide which backups are kept and which are deleted, each with the reason. The only clock is the backups' own moments.

Grandfather-father-son: the newest backups, and of older ones the last of each day, week and month (UTC, ISO weeks). Only days
with a backup count, so an idle site keeps its backups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ops.backup.manifest import Backup, Unreadable, moment_of
from ops.config.schema import Backup as Policy


@dataclass(frozen=True)
class Candidate:
    """A backup to decide on: its name and moment, whether all its parts exist, and whether it was verified.

    ``lost`` means that parts are missing for good. A backup that is neither whole nor lost may only be unreadable to this suite.
    """

    identity: str
    moment: datetime
    whole: bool = True
    verified: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether a backup is kept, with every reason as text."""

    identity: str
    kept: bool
    reasons: tuple[str, ...]


def plan_retention(candidates: Iterable[Candidate], policy: Policy) -> tuple[Decision, ...]:
    """Return the decision on every candidate, the newest first.

    Only whole backups count for the policy. The newest whole one and the newest verified one are kept whatever the policy says. A
    backup that is not whole is deleted when its parts are lost and a newer whole one exists; otherwise the operator has to check it.
    """
    newest_first = sorted(candidates, key=lambda each: (each.moment, each.identity), reverse=True)
    whole = [each for each in newest_first if each.whole]
    reasons: dict[str, list[str]] = {each.identity: [] for each in newest_first}
    for identity, reason in _reasons(whole, policy):
        reasons[identity].append(reason)
    newest = whole[0].moment if whole else None
    return tuple(_decide(each, tuple(reasons[each.identity]), newest=newest) for each in newest_first)


def candidates_from(backups: Iterable[Backup]) -> tuple[Candidate, ...]:
    """Return the backups of the bucket as candidates."""
    return tuple(
        Candidate(
            each.identity,
            each.manifest.moment if each.manifest else _moment_in(each.identity),
            whole=each.manifest is not None,
            verified=each.verified is not None,
            lost=each.lost,
        )
        for each in backups
    )


def table(decisions: Iterable[Decision]) -> tuple[str, ...]:
    """Return a line for each backup: its name, the decision and the reasons."""
    return tuple(
        f"{each.identity}  {'keep  ' if each.kept else 'REMOVE'}  {'; '.join(each.reasons)}" for each in decisions
    )


def _moment_in(identity: str) -> datetime:
    """Return the moment in a broken backup's name. A foreign file with another kind of name counts as older than all."""
    try:
        return moment_of(identity)
    except Unreadable:
        return datetime.min.replace(tzinfo=UTC)


def _reasons(whole: Sequence[Candidate], policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield the name of a backup and a reason to keep it, for each reason; ``whole`` is newest first."""
    verified = [each for each in whole if each.verified]
    yield from ((each.identity, "newest") for each in whole[:1])
    yield from ((each.identity, "newest verified") for each in verified[:1])
    for number, each in enumerate(whole[: policy.keep_last], 1):
        yield each.identity, f"{number} of the last {policy.keep_last}"
    for kind, count, period in _periods(policy):
        yield from ((each.identity, f"{kind} {name}") for name, each in _last_of_each(whole, count, period))


def _decide(candidate: Candidate, reasons: tuple[str, ...], *, newest: datetime | None) -> Decision:
    if candidate.whole:
        return Decision(candidate.identity, bool(reasons), reasons or ("no rule keeps it",))
    if candidate.lost and newest is not None and candidate.moment < newest:
        return Decision(candidate.identity, False, ("broken: parts are missing, and a newer backup is whole",))
    return Decision(candidate.identity, True, ("broken: check it with ops backup list",))


def _periods(policy: Policy) -> tuple[tuple[str, int, Callable[[datetime], str]], ...]:
    return (
        ("day", policy.keep_daily, lambda moment: f"{moment:%Y-%m-%d}"),
        ("week", policy.keep_weekly, lambda moment: f"{moment:%G-W%V}"),
        ("month", policy.keep_monthly, lambda moment: f"{moment:%Y-%m}"),
    )


def _last_of_each(
    whole: Iterable[Candidate], count: int, period: Callable[[datetime], str]
) -> list[tuple[str, Candidate]]:
    """Return the last backup of each of the newest ``count`` periods with a backup; ``whole`` is newest first."""
    found: dict[str, Candidate] = {}
    for each in whole:
        found.setdefault(period(each.moment), each)
    return list(found.items())[:count]
