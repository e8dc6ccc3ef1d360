"""The plans for shipping, replay and retention of the WAL."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import Refused
from ops.wal import plan as wal_plan
from ops.wal import segments
from ops.wal.plan import Gap
from ops.wal.segments import BaseBackup, Segment
from tests.support.wal_samples import NOW, OURS, SIZE, base, names


def test_finished_files_are_encrypted_and_the_partial_one_is_left_alone() -> None:
    received = [*names(4, 3), "000000010000000000000005.partial", "00000002.history"]
    plan = wal_plan.plan_shipping(received, [], [])
    assert plan.encrypt == (*names(3, 4), "00000002.history")
    assert plan.drop_received == plan.drop_encrypted == ()


def test_after_a_kill_no_file_is_encrypted_or_uploaded_twice_or_left_behind() -> None:
    plan = wal_plan.plan_shipping(names(1, 2, 3), names(2, 4), names(1, 4))
    assert plan.drop_received == tuple(names(1, 2))
    assert plan.encrypt == tuple(names(3))
    assert plan.drop_encrypted == tuple(names(4))


# Any of 21 segments: one number with a bit for each is fast to draw, and on average half of the bits are set.
SOME = st.integers(0, 2**21 - 1).map(lambda bits: {number for number in range(21) if bits >> number & 1})


@given(SOME, SOME, SOME)
def test_every_received_segment_is_in_the_bucket_or_still_to_be_uploaded(a: set[int], b: set[int], c: set[int]) -> None:
    received, encrypted, shipped = set(names(*a)), set(names(*b)), set(names(*c))
    plan = wal_plan.plan_shipping(received, encrypted, shipped)
    pending = (encrypted | set(plan.encrypt)) - set(plan.drop_encrypted)
    assert received | encrypted <= pending | shipped
    assert not pending & shipped
    assert set(plan.drop_received) | set(plan.encrypt) == received


def test_a_replay_starts_at_the_newest_base_backup_before_the_position_and_ends_one_segment_after_it() -> None:
    bases = [base(2, hours=50), base(5, hours=26), base(9, hours=2)]
    target = 7 * SIZE + 500
    plan = wal_plan.plan_replay(bases, names(*range(1, 12)), OURS, target)
    assert (plan.base.identity, plan.names, plan.stop) == ("b5", tuple(names(5, 6, 7, 8)), target)


def test_without_a_position_a_replay_takes_the_last_base_backup_and_all_wal_since() -> None:
    plan = wal_plan.plan_replay([base(2), base(5)], [*names(*range(1, 9)), "00000001.history"], OURS, None)
    assert (plan.base.identity, plan.stop) == ("b5", None)
    assert plan.names == (*sorted([*names(5, 6, 7, 8), "00000001.history"]),)


def test_a_position_at_the_end_of_the_wal_needs_no_stop() -> None:
    # PostgreSQL stops at the first record after the position, and here it has none.
    assert wal_plan.plan_replay([base(2)], names(2, 3), OURS, 4 * SIZE).stop is None
    assert wal_plan.plan_replay([base(2)], names(2, 3, 4), OURS, 4 * SIZE).stop == 4 * SIZE


def test_a_gap_is_refused_with_its_segment() -> None:
    with pytest.raises(Gap, match="segment 000000010000000000000004 is missing"):
        wal_plan.plan_replay([base(2)], names(2, 3, 5, 6), OURS, None)
    with pytest.raises(Gap, match="segment 000000010000000000000002 is missing"):
        wal_plan.plan_replay([base(2)], names(3), OURS, None)
    # Segments after the position or before the base backup are not needed.
    assert wal_plan.plan_replay([base(2)], names(0, 2, 3, 5), OURS, 4 * SIZE - 1).names == tuple(names(2, 3))


def test_wal_that_ends_too_early_is_refused_with_the_missing_segment() -> None:
    with pytest.raises(Refused, match="ends before segment 000000010000000000000004"):
        wal_plan.plan_replay([base(2)], names(2, 3), OURS, 4 * SIZE + 1)
    with pytest.raises(Refused, match="ends before segment 000000010000000000000002"):
        wal_plan.plan_replay([base(2)], [], OURS, None)


def test_a_base_backup_of_another_database_or_after_the_position_is_not_used() -> None:
    with pytest.raises(Refused, match="no base backup of database 7345"):
        wal_plan.plan_replay([base(2, system="99")], names(2, 3), OURS, None)
    with pytest.raises(Refused, match="no base backup of database 7345 at or before 0/2000128"):
        wal_plan.plan_replay([base(3)], names(2, 3), OURS, base(2).end)


def test_wal_continues_on_the_next_timeline() -> None:
    available = [*names(2, 3), *names(3, 4, timeline=2), "00000002.history"]
    plan = wal_plan.plan_replay([base(2)], available, OURS, None)
    assert set(plan.names) == set(available)
    # A base backup of the second timeline does not need the first one.
    later = wal_plan.plan_replay([base(3, timeline=2)], available, OURS, None)
    assert later.names == ("00000002.history", *names(3, 4, timeline=2))
    assert sorted([Segment(4, 1), Segment(3, 2), Segment(3, 1)]) == [Segment(3, 1), Segment(3, 2), Segment(4, 1)]


def test_the_later_base_backup_is_used_even_after_the_database_was_set_back() -> None:
    abandoned, later = base(9, hours=5), base(7, hours=1)
    assert wal_plan.plan_replay([abandoned, later], names(*range(6, 12)), OURS, None).base == later


def test_wal_is_kept_from_the_last_base_backup_before_the_kept_days() -> None:
    bases = [base(2, hours=24 * 20), base(5, hours=24 * 15), base(9, hours=24 * 13), base(12, hours=1)]
    keys = [segments.key_of(OURS, name) for name in [*names(*range(1, 14)), "00000002.history"]]
    to_delete = wal_plan.plan_wal_retention(bases, keys, NOW)
    assert [each.identity for each in to_delete.bases] == ["b2"]
    assert to_delete.keys == tuple(segments.key_of(OURS, name) for name in names(1, 2, 3, 4))


def test_wal_without_a_base_backup_is_kept_and_that_of_a_long_ended_database_is_deleted() -> None:
    keys = [segments.key_of(system, name) for system in (OURS, "88", "99") for name in names(1, 2)]
    to_delete = wal_plan.plan_wal_retention([base(1), base(1, system="88", hours=24 * 30)], keys, NOW)
    assert [each.system for each in to_delete.bases] == ["88"]
    assert to_delete.keys == tuple(segments.key_of("88", name) for name in names(1, 2))


AGES = st.lists(st.integers(0, 60 * 24), min_size=1, max_size=6, unique=True)


def after_prune(ages: list[int]) -> tuple[list[BaseBackup], list[BaseBackup], list[str]]:
    """All base backups of these ages in hours, oldest first, and the base backups and segments that a prune keeps."""
    bases = [base(2 * number + 1, hours=age) for number, age in enumerate(sorted(ages, reverse=True))]
    available = names(*range(2 * len(ages) + 2))
    to_delete = wal_plan.plan_wal_retention(bases, [segments.key_of(OURS, name) for name in available], NOW)
    left = [name for name in available if segments.key_of(OURS, name) not in to_delete.keys]
    return bases, [each for each in bases if each not in to_delete.bases], left


@given(AGES)
def test_after_a_prune_every_kept_base_backup_can_still_be_recovered(ages: list[int]) -> None:
    _, kept, left = after_prune(ages)
    assert kept
    for each in kept:
        assert wal_plan.plan_replay(kept, left, OURS, each.end).base == each


@given(AGES)
def test_after_a_prune_the_last_base_backup_before_the_kept_days_is_left(ages: list[int]) -> None:
    bases, kept, _ = after_prune(ages)
    old = [each for each in bases if NOW - each.moment > timedelta(days=segments.KEPT_DAYS)]
    assert [each for each in kept if each in old] == old[-1:]


@pytest.mark.parametrize(
    ("bases", "due"),
    [
        ([], True),
        ([base(1, hours=23)], False),
        ([base(1, hours=25)], True),
        ([base(1, hours=1, system="99")], True),
        ([base(1, hours=1, timeline=2)], True),
        ([base(1, hours=-9000)], True),
    ],
)
def test_a_base_backup_is_due_once_a_day_and_for_each_new_database(bases: list[BaseBackup], due: bool) -> None:
    assert wal_plan.base_backup_due(bases, OURS, 1, NOW) is due


def test_a_base_backup_is_used_for_targets_from_its_end_on() -> None:
    ends = base(2).end
    assert wal_plan.plan_replay([base(2)], names(2, 3), OURS, ends).stop == ends
    with pytest.raises(Refused, match="there is no base backup of database 7345 at or before 0/2000127"):
        wal_plan.plan_replay([base(2)], names(2, 3), OURS, ends - 1)
    with pytest.raises(Refused, match=r"there is no base backup of database 7345$"):
        wal_plan.plan_replay([], names(2, 3), OURS, None)


def test_a_target_at_a_segment_boundary_needs_the_segment_before_and_takes_one_more() -> None:
    stored = names(2, 3, 4, 5)
    plan = wal_plan.plan_replay([base(2)], stored, OURS, 4 * SIZE)
    assert (plan.names, plan.stop) == (tuple(names(2, 3, 4)), 4 * SIZE)
    plan = wal_plan.plan_replay([base(2)], stored, OURS, 4 * SIZE + 1)
    assert (plan.names, plan.stop) == (tuple(stored), 4 * SIZE + 1)


def test_a_missing_segment_is_a_gap_only_with_a_later_segment() -> None:
    with pytest.raises(Gap, match="segment 000000010000000000000003 is missing"):
        wal_plan.plan_replay([base(2)], names(2, 4), OURS, None)
    with pytest.raises(Refused, match="the WAL ends before segment 000000010000000000000003") as caught:
        wal_plan.plan_replay([base(2)], names(2), OURS, 3 * SIZE + 1)
    assert not isinstance(caught.value, Gap)
    # The first of several missing segments is named.
    with pytest.raises(Gap, match="segment 000000010000000000000003 is missing"):
        wal_plan.plan_replay([base(2)], names(2, 6), OURS, None)


def test_a_base_backup_without_the_wal_up_to_its_end_is_refused() -> None:
    long = dataclasses.replace(base(2), end=4 * SIZE)
    with pytest.raises(Refused, match="the WAL ends before segment 000000010000000000000003"):
        wal_plan.plan_replay([long], names(2), OURS, None)
    assert wal_plan.plan_replay([long], names(2, 3), OURS, None).names == tuple(names(2, 3))
    longer = dataclasses.replace(base(2), end=4 * SIZE + 1)
    with pytest.raises(Refused, match="the WAL ends before segment 000000010000000000000004"):
        wal_plan.plan_replay([longer], names(2, 3), OURS, None)


def test_a_replay_uses_the_segment_size_of_its_base_backup() -> None:
    size = 2**20
    small = dataclasses.replace(base(2), start=2 * size, end=2 * size + 9, segment_bytes=size)
    stored = [Segment(number, 1).name(size) for number in (1, 2, 3, 4)]
    plan = wal_plan.plan_replay([small], stored, OURS, 3 * size)
    assert plan.names == tuple(stored[1:3])
    assert plan.stop == 3 * size
    assert wal_plan.plan_replay([small], stored, OURS, 5 * size).stop is None


def test_of_two_base_backups_of_one_moment_the_one_with_the_later_end_is_used() -> None:
    one, other = base(3), base(2)
    assert wal_plan.plan_replay([one, other], names(2, 3, 4), OURS, None).base == one
    assert wal_plan.plan_replay([other, one], names(2, 3, 4), OURS, None).base == one


def test_a_base_backup_is_old_one_second_after_the_kept_days() -> None:
    exactly, later = base(5, hours=24 * 14), base(9, hours=1)
    older = base(2, hours=24 * 20)
    keys = [segments.key_of(OURS, name) for name in names(*range(1, 11))]
    kept = wal_plan.plan_wal_retention([older, exactly, later], keys, NOW)
    assert kept.bases == ()
    assert kept.keys == (segments.key_of(OURS, names(1)[0]),)
    expired = wal_plan.plan_wal_retention([later, exactly, older], keys, NOW + timedelta(seconds=1))
    assert expired.bases == (older,)
    assert expired.keys == tuple(segments.key_of(OURS, name) for name in names(1, 2, 3, 4))
    fewer = wal_plan.plan_wal_retention([older, exactly, later], keys, NOW, days=13)
    assert fewer.bases == (older,)


def test_keys_of_other_objects_are_never_removed() -> None:
    foreign = ["wal/7345/00000001/notes", "wal/7345/000000010000000000000001", "bases/7345/1.json"]
    assert wal_plan.plan_wal_retention([base(5)], foreign, NOW).keys == ()


def test_a_replaced_database_is_removed_when_all_its_base_backups_are_old() -> None:
    def expired(*bases: BaseBackup) -> list[str]:
        return [each.identity for each in wal_plan.plan_wal_retention(bases, [], NOW).bases]

    old, older = base(3, system="88", hours=24 * 15), base(2, system="88", hours=24 * 16)
    young = base(4, system="88", hours=24 * 13)
    assert expired(base(1), old, older) == ["b2", "b3"]
    assert expired(base(1), old, older, young) == ["b2"]
    # The newest database keeps its last base backup.
    assert expired(old, older) == ["b2"]
    # A database with a young base backup is kept.
    assert expired(base(1), young) == []


def test_a_base_backup_needs_the_wal_from_its_first_segment_on() -> None:
    keys = [segments.key_of(OURS, name) for name in [*names(4, 5), "00000001.history"]]
    at_boundary = dataclasses.replace(base(5), start=5 * SIZE)
    assert wal_plan.plan_wal_retention([at_boundary], keys, NOW).keys == (keys[0],)
    before = dataclasses.replace(base(5), start=5 * SIZE - 1)
    assert wal_plan.plan_wal_retention([before], keys, NOW).keys == ()


@pytest.mark.parametrize(
    ("age", "due"),
    [
        (timedelta(hours=24), True),
        (timedelta(hours=24, seconds=-1), False),
        (timedelta(minutes=-5), False),
        (timedelta(minutes=-5, seconds=-1), True),
    ],
)
def test_a_base_backup_is_young_for_a_day_and_up_to_five_minutes_in_the_future(age: timedelta, due: bool) -> None:
    taken = dataclasses.replace(base(1), moment=NOW - age)
    assert wal_plan.base_backup_due([taken], OURS, 1, NOW) is due


def test_a_base_backup_without_any_wal_is_refused_and_is_not_a_gap() -> None:
    for first in (0, 1, 2):
        with pytest.raises(Refused, match=f"the WAL ends before segment {names(first)[0]}") as caught:
            wal_plan.plan_replay([base(first)], [], OURS, None)
        assert not isinstance(caught.value, Gap)


def test_a_base_backup_that_ends_at_its_start_on_a_boundary_needs_its_first_segment() -> None:
    empty = dataclasses.replace(base(2), start=2 * SIZE, end=2 * SIZE)
    plan = wal_plan.plan_replay([empty], names(1, 2, 3), OURS, 2 * SIZE)
    assert (plan.names, plan.stop) == (tuple(names(2)), 2 * SIZE)


def test_old_base_backups_and_segments_of_every_database_are_removed() -> None:
    ours = [base(2, hours=24 * 20), base(5, hours=24 * 15), base(9, hours=1)]
    others = [dataclasses.replace(each, system="88", moment=each.moment - timedelta(hours=1)) for each in ours]
    keys = [segments.key_of(system, name) for system in (OURS, "88") for name in names(1, 5)]
    expired = wal_plan.plan_wal_retention([*ours, *others], keys, NOW)
    assert [(each.system, each.identity) for each in expired.bases] == [("88", "b2"), (OURS, "b2")]
    assert expired.keys == (segments.key_of(OURS, names(1)[0]), segments.key_of("88", names(1)[0]))
