"""Names of WAL segments, and the plans for shipping, replay and retention."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import OpsError, Refused
from ops.wal import plan as wal_plan
from ops.wal import segments
from ops.wal.plan import Gap
from ops.wal.segments import BaseBackup, Coverage, Segment, Streamed

NOW = datetime(2026, 11, 25, 18, 0, tzinfo=UTC)
SIZE = segments.SEGMENT_BYTES
OURS = "7345"


def base(first: int, *, hours: float = 1, timeline: int = 1, system: str = OURS) -> BaseBackup:
    """A base backup that begins and ends in segment ``first``."""
    moment = NOW - timedelta(hours=hours)
    start = first * SIZE + 0x28
    return BaseBackup(f"b{first}", system, timeline, start, start + 0x100, moment, "local", "remote", 1000, "18.6")


def names(*numbers: int, timeline: int = 1) -> list[str]:
    return [Segment(number, timeline).name() for number in numbers]


def test_a_segment_has_the_name_that_postgresql_gives_it() -> None:
    assert Segment(3, 1).name() == "000000010000000000000003"
    assert Segment(256, 1).name() == "000000010000000100000000"
    assert Segment(4096, 10).name(2**20) == "0000000A0000000100000000"


@given(st.integers(0, 2**33), st.integers(1, 2**31), st.sampled_from([2**20, SIZE, 2**30]))
def test_a_segment_is_read_back_from_its_name(number: int, timeline: int, size: int) -> None:
    assert segments.segment_from(Segment(number, timeline).name(size), size) == Segment(number, timeline)


@pytest.mark.parametrize("name", ["000000010000000000000003.partial", "00000002.history", "state.json", "encrypted"])
def test_other_names_are_not_segments(name: str) -> None:
    assert segments.segment_from(name) is None


@given(st.integers(0, 2**63))
def test_a_position_is_written_and_read_in_postgresql_s_format(position: int) -> None:
    assert segments.position_from(segments.position_as_text(position)) == position
    assert segments.position_as_text(0x16B374D848) == "16/B374D848"


def test_the_byte_before_a_boundary_is_in_the_previous_segment() -> None:
    assert segments.segment_before(3 * SIZE, 1) == Segment(2, 1)
    assert segments.segment_before(3 * SIZE + 1, 1) == Segment(3, 1)


def test_a_key_contains_the_database_the_timeline_and_the_segment() -> None:
    key = segments.key_of(OURS, "000000010000000000000003")
    assert key == "wal/7345/00000001/000000010000000000000003"
    assert segments.name_from(key) == "000000010000000000000003"


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


def test_a_database_that_was_set_back_is_detected_by_segments_after_its_current_one() -> None:
    current = Segment(5, 1)
    assert not segments.is_reverted([*names(3, 4, 5), "00000002.history", ""], current)
    assert segments.is_reverted(names(4, 6), current)
    # Segments of another timeline have other names.
    assert not segments.is_reverted(names(6, timeline=2), current)
    assert segments.last_before([*names(3, 4, 5, 6), "00000002.history"], current) == names(4)[0]
    assert segments.last_before(names(5), current) == ""


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


def test_a_stream_is_red_after_three_minutes_without_new_wal_in_the_bucket() -> None:
    def probe(seconds: float) -> bool:
        return segments.check_stream(Streamed(OURS, NOW - timedelta(seconds=seconds), "x"), NOW).healthy

    assert (probe(0), probe(180), probe(181)) == (True, True, False)
    assert not segments.check_stream(None, NOW).healthy
    # A moment in the future means that the clock was set back: it proves nothing about now.
    assert (probe(-180), probe(-181)) == (True, False)
    failing = segments.check_stream(Streamed(OURS, NOW - timedelta(hours=1), "x", "bucket unreachable"), NOW)
    assert failing.seen == "in the bucket until 3600 s ago: bucket unreachable"


def test_the_state_of_the_stream_is_read_back_and_a_truncated_one_is_ignored() -> None:
    state = Streamed(OURS, NOW, "000000010000000000000003", "no")
    text = segments.state_to_json(state)
    assert segments.state_from_json(text) == state
    for length in range(len(text)):
        assert segments.state_from_json(text[:length]) is None


def test_a_base_backup_record_is_read_back_and_a_truncated_or_newer_one_is_refused() -> None:
    whole = segments.base_to_json(base(4))
    assert segments.base_from_json(whole) == base(4)
    for length in range(len(whole) - 1):
        with pytest.raises(OpsError, match="truncated"):
            segments.base_from_json(whole[:length])
    with pytest.raises(OpsError, match="newer suite"):
        segments.base_from_json(re.sub(rb'"schema": \d', b'"schema": 2', whole))


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


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_segment_is_never_switched_for_an_idle_database_whose_coverage_stays_current() -> None:
    coverage = Coverage()
    assert coverage.wants_switch("10:10:", NOW)
    coverage = coverage.after_switch("10:10:", "S1", NOW).after_poll("10:10:", "S1", after(1))
    assert coverage.covered == NOW
    # Idle: nothing is sent, and everything that was written is in the bucket.
    for second in range(2, 200):
        assert not coverage.wants_switch("10:10:", after(second))
        coverage = coverage.after_poll("10:10:", "S1", after(second))
        assert coverage.covered == after(second)


def test_a_segment_is_switched_at_once_after_a_write_and_then_only_after_half_a_minute() -> None:
    coverage = Coverage().after_switch("10:10:", "S1", NOW).after_poll("10:10:", "S1", after(1))
    coverage = coverage.after_poll("10:10:", "S1", after(199))
    assert coverage.wants_switch("10:11:", after(200))
    coverage = coverage.after_switch("10:11:", "S2", after(200))
    assert not coverage.wants_switch("10:12:", after(210))
    coverage = coverage.after_poll("10:12:", "S1", after(210))
    assert coverage.covered == after(199)
    coverage = coverage.after_poll("10:12:", "S2", after(211))
    assert coverage.covered == after(200)
    assert not coverage.wants_switch("10:12:", after(200 + segments.SWITCH_SECONDS - 1))
    assert coverage.wants_switch("10:12:", after(200 + segments.SWITCH_SECONDS))


def test_a_segment_is_switched_although_the_clock_was_set_back() -> None:
    coverage = Coverage().after_switch("10:10:", "S1", NOW).after_poll("10:10:", "S1", after(1))
    assert coverage.wants_switch("10:11:", after(-600))


def test_a_transaction_that_ends_after_the_switch_is_not_covered() -> None:
    # Transaction 10 was running at the switch: its end is in the next segment.
    coverage = Coverage().after_switch("10:11:10", "S1", NOW).after_poll("11:11:", "S1", after(2))
    assert coverage.covered == NOW
    coverage = coverage.after_poll("11:11:", "S1", after(5))
    assert coverage.covered == NOW
    assert coverage.wants_switch("11:11:", after(segments.SWITCH_SECONDS))
