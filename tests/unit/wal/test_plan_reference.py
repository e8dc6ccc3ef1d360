"""The plans for replay and WAL retention, compared with a reference that walks from segment to segment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ops.errors import Refused
from ops.wal import plan as wal_plan
from ops.wal import segments
from ops.wal.plan import Gap
from ops.wal.segments import BaseBackup, Segment

NOW = datetime(2026, 11, 25, 18, 0, tzinfo=UTC)
SIZE = 2**20
OURS, OTHER = "7345", "99"


def _base(numbers: tuple[int, int, int, int]) -> BaseBackup:
    """One base backup: its start, its length, its age in half days, and two bits for the timeline and the database."""
    start, length, age, bits = numbers
    moment = NOW - timedelta(hours=12 * age, minutes=start % 7)
    identity = f"{start}-{length}-{age}-{bits}"
    system, timeline = (OTHER if bits & 1 else OURS), 1 + (bits >> 1)
    return BaseBackup(identity, system, timeline, start, start + length, moment, "local", "remote", 1, "18.6", SIZE)


BASES = st.lists(
    st.tuples(
        st.integers(0, 6 * SIZE), st.sampled_from([0, 1, 9, SIZE - 1, SIZE, 2 * SIZE]), st.integers(0, 60), st.integers(0, 3)
    ).map(_base),
    max_size=5,
)  # fmt: skip
# A bit for each of ten segments on two timelines, and one for a history file.
NAMES = st.integers(0, 2**21 - 1).map(
    lambda bits: [
        *(Segment(number % 10, 1 + number // 10).name(SIZE) for number in range(20) if bits >> number & 1),
        *(["00000002.history"] if bits >> 20 else []),
        "state.json",
    ]
)
TARGETS = st.none() | st.integers(1, 10).map(lambda number: number * SIZE) | st.integers(0, 10 * SIZE)


def _reference_base(bases: list[BaseBackup], target: int | None) -> BaseBackup | None:
    usable = [each for each in bases if each.system == OURS and (target is None or each.end <= target)]
    return max(usable, key=lambda each: (each.moment, each.end), default=None)


def _usable_numbers(base: BaseBackup, names: list[str]) -> dict[str, int]:
    parsed = {name: segments.segment_from(name, SIZE) for name in names}
    return {name: each.number for name, each in parsed.items() if each and each.timeline >= base.timeline}


def _needed(names: list[str], usable: dict[str, int], span: range) -> list[str]:
    return sorted(name for name in names if name.endswith(".history") or usable.get(name) in span)


def _reference_replay(bases: list[BaseBackup], names: list[str], target: int | None) -> tuple[object, ...]:
    """Return identity, names and stop, or the kind of error with the number of its segment."""
    base = _reference_base(bases, target)
    if base is None:
        return ("no base",)
    usable = _usable_numbers(base, names)
    highest = max(usable.values(), default=-1)
    first = number = base.start // SIZE
    end = highest if target is None else (target - 1) // SIZE
    while number <= end and number in usable.values():
        number += 1
    if number <= end:
        return ("gap" if number < highest else "early end", number)
    if (highest + 1) * SIZE < base.end:
        return ("early end", max(first, highest + 1))
    stop = None if target == (highest + 1) * SIZE else target
    return (base.identity, _needed(names, usable, range(first, number + 1)), stop)


def _planned_replay(bases: list[BaseBackup], names: list[str], target: int | None) -> tuple[object, ...]:
    try:
        plan = wal_plan.plan_replay(bases, names, OURS, target)
    except Refused as refused:
        words = refused.message.replace(":", " ").split()
        named = next((segments.segment_from(word, SIZE) for word in words if segments.segment_from(word, SIZE)), None)
        if named is None:
            return ("no base",)
        return ("gap" if isinstance(refused, Gap) else "early end", named.number)
    return (plan.base.identity, list(plan.names), plan.stop)


@given(BASES, NAMES, TARGETS)
def test_a_replay_plan_equals_that_of_a_walk_from_segment_to_segment(
    bases: list[BaseBackup], names: list[str], target: int | None
) -> None:
    assert _planned_replay(bases, names, target) == _reference_replay(bases, names, target)


def _reference_retention(bases: list[BaseBackup], keys: list[str], days: int) -> tuple[list[str], list[str]]:
    """Return the identities of the base backups and the keys to delete, each decided on its own."""
    limit = NOW - timedelta(days=days)
    newest = max(bases, key=lambda each: each.moment, default=None)

    def is_needed(base: BaseBackup) -> bool:
        ours = [each for each in bases if each.system == base.system]
        recent = [each for each in ours if each.moment >= limit]
        if not recent and newest is not None and newest.system != base.system:
            return False
        old = sorted((each for each in ours if each.moment < limit), key=lambda each: each.moment)
        return base in recent or base == old[-1]

    def is_wal_needed(key: str) -> bool:
        system, name = key.split("/")[1], key.split("/")[3]
        ours = [each for each in bases if each.system == system]
        segment = segments.segment_from(name, SIZE)
        return not ours or any(
            is_needed(each) and (segment is None or segment.number >= each.start // SIZE) for each in ours
        )

    return (
        sorted(each.identity for each in bases if not is_needed(each)),
        sorted(key for key in keys if key.count("/") == 3 and not is_wal_needed(key)),
    )


@given(BASES, NAMES, st.integers(1, 20))
def test_wal_retention_equals_a_decision_made_for_each_file_on_its_own(
    bases: list[BaseBackup], names: list[str], days: int
) -> None:
    bases = list({each.moment: each for each in bases}.values())
    finished = [name for name in names if segments.is_finished(name)]
    keys = [*(segments.key_of(system, name) for system in (OURS, OTHER, "1") for name in finished), "wal/notes"]
    plan = wal_plan.plan_wal_retention(bases, keys, NOW, days)
    planned = (sorted(each.identity for each in plan.bases), list(plan.keys))
    assert planned == _reference_retention(bases, keys, days)
    assert [each.moment for each in plan.bases] == sorted(each.moment for each in plan.bases)
