"""Names of WAL segments and positions, the state of the stream, its coverage, and records of base backups."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import OpsError
from ops.wal import segments
from ops.wal.segments import Coverage, Segment, Streamed, Waiting
from tests.support.wal_samples import NOW, OURS, SIZE, base, names


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


def test_a_database_that_was_set_back_is_detected_by_segments_after_its_current_one() -> None:
    current = Segment(5, 1)
    assert not segments.is_reverted([*names(3, 4, 5), "00000002.history", ""], current)
    assert segments.is_reverted(names(4, 6), current)
    # Segments of another timeline have other names.
    assert not segments.is_reverted(names(6, timeline=2), current)
    assert segments.last_before([*names(3, 4, 5, 6), "00000002.history"], current) == names(4)[0]
    assert segments.last_before(names(5), current) == ""


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
