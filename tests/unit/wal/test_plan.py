"""Names of WAL segments, and the plans for shipping, replay and retention."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import OpsError, Refused
from ops.wal import plan as wal_plan
from ops.wal import segments
from ops.wal.plan import Gap
from ops.wal.segments import BaseBackup, Coverage, Segment, Streamed, Waiting

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


def test_the_constants_of_the_wal_are_persisted_on_hosts_and_in_buckets() -> None:
    assert (segments.PREFIX, segments.BASES, segments.PARTIAL, segments.PROBE) == (
        "wal/",
        "bases/",
        ".partial",
        "WAL stream",
    )
    assert (SIZE, segments.SWITCH_SECONDS, segments.BASE_HOURS, segments.KEPT_DAYS) == (16 * 1024 * 1024, 30.0, 24, 14)
    assert timedelta(minutes=3) == segments.LATE


def test_waiting_wal_has_two_folders(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    assert (waiting.received, waiting.encrypted) == (tmp_path / "received", tmp_path / "sealed")


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("000000010000000000000003", Segment(3, 1)),
        ("0000000A0000000200000004", Segment(2 * 256 + 4, 10)),
        ("00000001000000000000000g", None),
        ("00000001000000000000000300", None),
    ],
)
def test_a_segment_name_is_timeline_high_and_low_part_in_hex(name: str, segment: Segment | None) -> None:
    assert segments.segment_from(name) == segment


def test_an_lsn_has_a_high_and_a_low_half() -> None:
    assert segments.position_from("16/B374D848") == 0x16_B374D848
    assert segments.position_from("1/0") == 2**32
    assert segments.position_as_text(2**32 - 1) == "0/FFFFFFFF"
    assert segments.position_as_text(2**32) == "1/0"


def test_the_first_byte_of_a_segment_belongs_to_it() -> None:
    assert segments.segment_before(1, 7) == Segment(0, 7)
    assert segments.segment_before(2**20, 1, 2**20) == Segment(0, 1)
    assert segments.segment_before(2**20 + 1, 1, 2**20) == Segment(1, 1)


@pytest.mark.parametrize(
    ("name", "finished"),
    [
        ("000000010000000000000003", True),
        ("00000002.history", True),
        ("000000010000000000000003.partial", False),
        ("00000002.history.partial", False),
    ],
)
def test_segments_and_histories_are_finished_and_partial_files_are_not(name: str, finished: bool) -> None:
    assert segments.is_finished(name) is finished


@pytest.mark.parametrize(
    ("age", "waiting", "transactions", "wanted"),
    [
        (0.0, "", "b", False),
        (29.9, "", "b", False),
        (30.0, "", "b", True),
        (-0.1, "", "b", True),
        (30.0, "S2", "b", False),
        (30.0, "", "a", False),
    ],
)
def test_a_segment_is_switched_30_s_after_the_last_switch_and_only_for_new_transactions(
    age: float, waiting: str, transactions: str, wanted: bool
) -> None:
    assert Coverage(NOW, "a", NOW, waiting).wants_switch(transactions, after(age)) is wanted


def test_coverage_advances_only_when_the_awaited_segment_is_in_the_bucket() -> None:
    waits = Coverage(NOW, "a", after(60), "000000010000000000000004")
    arrived = Coverage(after(60), "a", after(60), "")
    assert waits.after_poll("b", "000000010000000000000003", after(61)) == waits
    assert waits.after_poll("a", "000000010000000000000003", after(61)) == waits
    assert waits.after_poll("b", "000000010000000000000004", after(61)) == arrived
    assert waits.after_poll("b", "000000010000000000000005", after(61)) == arrived
    idle = Coverage(NOW, "a", after(60), "")
    assert idle.after_poll("a", "", after(90)) == Coverage(after(90), "a", after(60), "")
    assert idle.after_poll("b", "", after(90)) == idle


def test_a_database_with_another_segment_size_is_recognized_as_reset() -> None:
    current = Segment(5, 1)
    later = Segment(6, 1).name(2**20)
    assert segments.is_reverted([later], current, 2**20)
    assert not segments.is_reverted([current.name(2**20)], current, 2**20)
    assert segments.last_before([Segment(4, 1).name(2**20), later], current, 2**20) == Segment(4, 1).name(2**20)


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


def test_a_stream_probe_shows_the_covered_time_or_that_no_wal_has_arrived() -> None:
    probe = segments.check_stream(Streamed(OURS, NOW - timedelta(seconds=7), "x"), NOW)
    assert (probe.name, probe.healthy, probe.seen) == ("WAL stream", True, "in the bucket until 7 s ago")
    assert segments.check_stream(None, NOW).seen == "no WAL has arrived in the bucket yet"


def test_a_base_backup_is_stored_as_a_document_with_a_schema() -> None:
    document = json.loads(segments.base_to_json(base(4)))
    assert (document.pop("schema"), document.pop("moment")) == (1, "2026-11-25T17:00:00+00:00")
    assert document == {
        "identity": "b4",
        "system": OURS,
        "timeline": 1,
        "start": 4 * SIZE + 0x28,
        "end": 4 * SIZE + 0x128,
        "local": "local",
        "remote": "remote",
        "size": 1000,
        "version": "18.6",
        "segment_bytes": SIZE,
    }
    keys = list(json.loads(segments.base_to_json(base(4))))
    assert keys == sorted(keys)
    assert segments.base_to_json(base(4)).startswith(b'{\n "end"')


def test_the_state_of_the_stream_is_one_line_with_its_keys_in_order() -> None:
    text = segments.state_to_json(Streamed(OURS, NOW, "000000010000000000000003", "no"))
    assert text == (
        '{"covered": "2026-11-25T18:00:00+00:00", "shipped": "000000010000000000000003", '
        '"system": "7345", "trouble": "no"}'
    )


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
