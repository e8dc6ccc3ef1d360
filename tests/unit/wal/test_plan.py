"""What the log's segments are called, which are to be sent, and which of them make a database."""

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
    """A base that begins in segment ``first`` and ends in it, too."""
    moment = NOW - timedelta(hours=hours)
    start = first * SIZE + 0x28
    return BaseBackup(f"b{first}", system, timeline, start, start + 0x100, moment, "local", "remote", 1000, "18.6")


def names(*numbers: int, timeline: int = 1) -> list[str]:
    return [Segment(number, timeline).name() for number in numbers]


def test_a_segment_is_called_as_postgresql_calls_it() -> None:
    assert Segment(3, 1).name() == "000000010000000000000003"
    assert Segment(256, 1).name() == "000000010000000100000000"
    assert Segment(4096, 10).name(2**20) == "0000000A0000000100000000"


@given(st.integers(0, 2**33), st.integers(1, 2**31), st.sampled_from([2**20, SIZE, 2**30]))
def test_a_segment_s_name_tells_it_again(number: int, timeline: int, size: int) -> None:
    assert segments.segment_from(Segment(number, timeline).name(size), size) == Segment(number, timeline)


@pytest.mark.parametrize("name", ["000000010000000000000003.partial", "00000002.history", "state.json", "sealed"])
def test_what_is_no_whole_segment_is_none(name: str) -> None:
    assert segments.segment_from(name) is None


@given(st.integers(0, 2**63))
def test_a_position_is_written_and_read_as_postgresql_does(position: int) -> None:
    assert segments.position_from(segments.position_as_text(position)) == position
    assert segments.position_as_text(0x16B374D848) == "16/B374D848"


def test_the_byte_before_a_boundary_lies_in_the_segment_before() -> None:
    assert segments.segment_before(3 * SIZE, 1) == Segment(2, 1)
    assert segments.segment_before(3 * SIZE + 1, 1) == Segment(3, 1)


def test_a_key_names_the_database_the_timeline_and_the_segment() -> None:
    key = segments.key_of(OURS, "000000010000000000000003")
    assert key == "wal/7345/00000001/000000010000000000000003"
    assert segments.name_from(key) == "000000010000000000000003"


def test_what_is_whole_is_sealed_and_what_still_grows_is_left_alone() -> None:
    received = [*names(4, 3), "000000010000000000000005.partial", "00000002.history"]
    plan = wal_plan.plan_shipping(received, [], [])
    assert plan.encrypt == (*names(3, 4), "00000002.history")
    assert plan.drop_received == plan.drop_encrypted == ()


def test_after_a_kill_nothing_is_sealed_or_sent_twice_and_nothing_is_left_behind() -> None:
    plan = wal_plan.plan_shipping(names(1, 2, 3), names(2, 4), names(1, 4))
    assert plan.drop_received == tuple(names(1, 2))
    assert plan.encrypt == tuple(names(3))
    assert plan.drop_encrypted == tuple(names(4))


# Any of 21 segments: one number with a bit for each, which is drawn in a moment, and of which half are there.
SOME = st.integers(0, 2**21 - 1).map(lambda bits: {number for number in range(21) if bits >> number & 1})


@given(SOME, SOME, SOME)
def test_every_segment_that_was_received_is_in_the_bucket_or_on_its_way(a: set[int], b: set[int], c: set[int]) -> None:
    received, encrypted, shipped = set(names(*a)), set(names(*b)), set(names(*c))
    plan = wal_plan.plan_shipping(received, encrypted, shipped)
    on_its_way = (encrypted | set(plan.encrypt)) - set(plan.drop_encrypted)
    assert received | encrypted <= on_its_way | shipped
    assert not on_its_way & shipped
    assert set(plan.drop_received) | set(plan.encrypt) == received


def test_a_replay_begins_at_the_newest_base_that_is_old_enough_and_ends_one_segment_behind_the_position() -> None:
    bases = [base(2, hours=50), base(5, hours=26), base(9, hours=2)]
    target = 7 * SIZE + 500
    plan = wal_plan.plan_replay(bases, names(*range(1, 12)), OURS, target)
    assert (plan.base.identity, plan.names, plan.stop) == ("b5", tuple(names(5, 6, 7, 8)), target)


def test_the_newest_database_is_the_last_base_and_all_of_the_log_since() -> None:
    plan = wal_plan.plan_replay([base(2), base(5)], [*names(*range(1, 9)), "00000001.history"], OURS, None)
    assert (plan.base.identity, plan.stop) == ("b5", None)
    assert plan.names == (*sorted([*names(5, 6, 7, 8), "00000001.history"]),)


def test_a_position_at_the_very_end_of_the_log_is_its_end() -> None:
    # PostgreSQL stops at the first record behind a position, and there is none.
    assert wal_plan.plan_replay([base(2)], names(2, 3), OURS, 4 * SIZE).stop is None
    assert wal_plan.plan_replay([base(2)], names(2, 3, 4), OURS, 4 * SIZE).stop == 4 * SIZE


def test_a_gap_is_refused_by_its_name() -> None:
    with pytest.raises(Gap, match="segment 000000010000000000000004 is missing"):
        wal_plan.plan_replay([base(2)], names(2, 3, 5, 6), OURS, None)
    with pytest.raises(Gap, match="segment 000000010000000000000002 is missing"):
        wal_plan.plan_replay([base(2)], names(3), OURS, None)
    # What is missing behind the position, or before the base, is not needed.
    assert wal_plan.plan_replay([base(2)], names(0, 2, 3, 5), OURS, 4 * SIZE - 1).names == tuple(names(2, 3))


def test_a_log_that_ends_too_early_is_refused_by_the_segment_it_lacks() -> None:
    with pytest.raises(Refused, match="ends before segment 000000010000000000000004"):
        wal_plan.plan_replay([base(2)], names(2, 3), OURS, 4 * SIZE + 1)
    with pytest.raises(Refused, match="ends before segment 000000010000000000000002"):
        wal_plan.plan_replay([base(2)], [], OURS, None)


def test_another_database_s_base_is_of_no_use_and_neither_is_a_later_one() -> None:
    with pytest.raises(Refused, match="no base of database 7345"):
        wal_plan.plan_replay([base(2, system="99")], names(2, 3), OURS, None)
    with pytest.raises(Refused, match="no base of database 7345 from 0/2000128 or before"):
        wal_plan.plan_replay([base(3)], names(2, 3), OURS, base(2).end)


def test_the_log_goes_on_on_the_next_timeline() -> None:
    there = [*names(2, 3), *names(3, 4, timeline=2), "00000002.history"]
    plan = wal_plan.plan_replay([base(2)], there, OURS, None)
    assert set(plan.names) == set(there)
    # A base of the second timeline has no use for the first one.
    later = wal_plan.plan_replay([base(3, timeline=2)], there, OURS, None)
    assert later.names == ("00000002.history", *names(3, 4, timeline=2))
    assert sorted([Segment(4, 1), Segment(3, 2), Segment(3, 1)]) == [Segment(3, 1), Segment(3, 2), Segment(4, 1)]


def test_a_database_that_was_taken_back_is_known_by_segments_that_are_still_to_come() -> None:
    here = Segment(5, 1)
    assert not segments.is_reverted([*names(3, 4, 5), "00000002.history", ""], here)
    assert segments.is_reverted(names(4, 6), here)
    # Another timeline writes other names.
    assert not segments.is_reverted(names(6, timeline=2), here)
    assert segments.last_before([*names(3, 4, 5, 6), "00000002.history"], here) == names(4)[0]
    assert segments.last_before(names(5), here) == ""


def test_of_two_bases_the_later_one_counts_even_if_the_database_was_taken_back_before_it() -> None:
    abandoned, later = base(9, hours=5), base(7, hours=1)
    assert wal_plan.plan_replay([abandoned, later], names(*range(6, 12)), OURS, None).base == later


def test_the_log_is_kept_from_the_last_base_before_the_days_that_are_kept() -> None:
    bases = [base(2, hours=24 * 20), base(5, hours=24 * 15), base(9, hours=24 * 13), base(12, hours=1)]
    keys = [segments.key_of(OURS, name) for name in [*names(*range(1, 14)), "00000002.history"]]
    doomed = wal_plan.plan_wal_retention(bases, keys, NOW)
    assert [each.identity for each in doomed.bases] == ["b2"]
    assert doomed.keys == tuple(segments.key_of(OURS, name) for name in names(1, 2, 3, 4))


def test_a_database_s_log_without_a_base_is_kept_and_one_that_ended_long_ago_goes() -> None:
    keys = [segments.key_of(system, name) for system in (OURS, "88", "99") for name in names(1, 2)]
    doomed = wal_plan.plan_wal_retention([base(1), base(1, system="88", hours=24 * 30)], keys, NOW)
    assert [each.system for each in doomed.bases] == ["88"]
    assert doomed.keys == tuple(segments.key_of("88", name) for name in names(1, 2))


@given(st.lists(st.integers(0, 60 * 24), min_size=1, max_size=6, unique=True))
def test_whatever_is_pruned_every_moment_of_the_kept_days_can_still_be_replayed(ages: list[int]) -> None:
    ordered = sorted(ages, reverse=True)
    bases = [base(2 * number + 1, hours=age) for number, age in enumerate(ordered)]
    there = names(*range(2 * len(ages) + 2))
    doomed = wal_plan.plan_wal_retention(bases, [segments.key_of(OURS, name) for name in there], NOW)
    left = [name for name in there if segments.key_of(OURS, name) not in doomed.keys]
    kept = [each for each in bases if each not in doomed.bases]
    assert kept
    for each in kept:
        assert wal_plan.plan_replay(kept, left, OURS, each.end).base == each
    oldest = [each for each in bases if NOW - each.moment > timedelta(days=segments.KEPT_DAYS)]
    assert not oldest or oldest[-1] in kept


def test_a_stream_is_red_once_what_is_not_in_the_bucket_is_older_than_three_minutes() -> None:
    def probe(seconds: float) -> bool:
        return segments.check_stream(Streamed(OURS, NOW - timedelta(seconds=seconds), "x"), NOW).healthy

    assert (probe(0), probe(180), probe(181)) == (True, True, False)
    assert not segments.check_stream(None, NOW).healthy
    # A clock that was set back: what it was told until then is no proof of now.
    assert (probe(-180), probe(-181)) == (True, False)
    hindered = segments.check_stream(Streamed(OURS, NOW - timedelta(hours=1), "x", "bucket away"), NOW)
    assert hindered.seen == "in the bucket until 3600 s ago: bucket away"


def test_what_the_stream_says_is_read_again_and_rubbish_is_nothing() -> None:
    state = Streamed(OURS, NOW, "000000010000000000000003", "no")
    text = segments.state_to_json(state)
    assert segments.state_from_json(text) == state
    for length in range(len(text)):
        assert segments.state_from_json(text[:length]) is None


def test_what_the_bucket_keeps_of_a_base_is_read_again() -> None:
    whole = segments.base_to_json(base(4))
    assert segments.base_from_json(whole) == base(4)
    for length in range(len(whole) - 1):
        with pytest.raises(OpsError, match="cut off"):
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
def test_a_base_is_due_once_a_day_and_for_each_new_database(bases: list[BaseBackup], due: bool) -> None:
    assert wal_plan.base_backup_due(bases, OURS, 1, NOW) is due


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_segment_is_ended_when_something_was_written_and_never_for_an_idle_database() -> None:
    known = Coverage()
    assert known.wants_switch("10:10:", NOW)
    known = known.after_switch("10:10:", "S1", NOW).after_look("10:10:", "S1", after(1))
    assert known.covered == NOW
    # Idle: nothing is sent, and all that was written is in the bucket.
    for second in range(2, 200):
        assert not known.wants_switch("10:10:", after(second))
        known = known.after_look("10:10:", "S1", after(second))
        assert known.covered == after(second)
    # Busy: ended at once after a rest, then not again before half a minute is over.
    assert known.wants_switch("10:11:", after(200))
    known = known.after_switch("10:11:", "S2", after(200))
    assert not known.wants_switch("10:12:", after(210))
    known = known.after_look("10:12:", "S1", after(210))
    assert known.covered == after(199)
    known = known.after_look("10:12:", "S2", after(211))
    assert known.covered == after(200)
    assert not known.wants_switch("10:12:", after(200 + segments.SWITCH_SECONDS - 1))
    assert known.wants_switch("10:12:", after(200 + segments.SWITCH_SECONDS))


def test_a_clock_that_was_set_back_keeps_no_segment_from_being_ended() -> None:
    known = Coverage().after_switch("10:10:", "S1", NOW).after_look("10:10:", "S1", after(1))
    assert known.wants_switch("10:11:", after(-600))


def test_a_transaction_that_ends_after_the_switch_is_not_covered_by_it() -> None:
    # 10 was still going on when the segment was ended: its end is in the next one.
    known = Coverage().after_switch("10:11:10", "S1", NOW).after_look("11:11:", "S1", after(2))
    assert known.covered == NOW
    known = known.after_look("11:11:", "S1", after(5))
    assert known.covered == NOW
    assert known.wants_switch("11:11:", after(segments.SWITCH_SECONDS))
