"""Records of drills and verifications: how long they count, and which packs are read next."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.backup import catalogue, records
from ops.backup.manifest import Backup
from ops.backup.records import SHARES, Drill, Verification
from ops.errors import OpsError
from tests.support import fakes

NOW = datetime(2026, 11, 23, 5, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=400)


def verified(days: float, share: int = 1, *findings: str) -> Verification:
    return Verification(NOW - timedelta(days=days), "20261123T110000Z", share, findings, {"remote": 1.5})


def drilled(days: float, *findings: str) -> Drill:
    return Drill(NOW - timedelta(days=days), "20261123T110000Z", 41.2, 540.0, findings)


def daily(count: int) -> list[Verification]:
    """So many daily verifications, each of the share that was due, the last one now."""
    done: list[Verification] = []
    for day in reversed(range(count)):
        done.append(verified(day, records.choose_share(done, NOW)))
    return done


def test_a_verification_record_is_read_back_and_a_truncated_one_is_refused() -> None:
    for each in (verified(0, 3), verified(0, 7, "one", "two")):
        assert records.verification_from_json(records.to_json(each)) == each
    whole = records.to_json(verified(0))
    for length in range(len(whole) - 1):
        with pytest.raises(OpsError, match="truncated"):
            records.verification_from_json(whole[:length])


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, SHARES + 1), st.booleans())), st.integers(SHARES, 20))
def test_a_week_of_daily_verifications_reads_every_share_whatever_was_read_before(
    before: list[tuple[int, int, bool]], days: int
) -> None:
    done = [verified(100 + ago, share, *(["a bit"] if bad else [])) for ago, share, bad in before]
    for day in reversed(range(days)):
        done.append(verified(day, records.choose_share(done, NOW)))
    assert {each.share for each in done[-SHARES:]} == set(range(1, SHARES + 1))


def test_a_record_from_the_future_is_ignored() -> None:
    never, early = verified(-400), verified(-400, 1, "a bit")
    for later in (never, early):
        assert records.check_verifications([verified(1), later], LONG_AGO, NOW) == records.check_verifications(
            [verified(1)], LONG_AGO, NOW
        )
        assert records.check_verifications([later], LONG_AGO, NOW) == "no backup was verified yet"
        assert records.choose_share([*daily(SHARES), later], NOW) == records.choose_share(daily(SHARES), NOW)
    for future in (drilled(-400), drilled(-400, "rows differ")):
        assert records.due([future], 7, NOW)
        assert records.check_drills([drilled(1), future], 7, LONG_AGO, NOW) == ""
        assert records.check_drills([future], 7, LONG_AGO, NOW) == "no drill has restored a backup yet"
    # A small correction of the clock does not count as the future.
    assert not records.due([drilled(-1 / 24 / 60)], 7, NOW)


def test_the_search_for_a_passed_verification_goes_back_beyond_the_newest_records() -> None:
    failed = [verified(day, 1, "a bit") for day in range(30)]
    passed = [verified(40), verified(50)]
    stored = {records.key_of(records.VERIFICATIONS, each.began): records.to_json(each) for each in [*failed, *passed]}
    world: Any = fakes.FakeWorld(aws=fakes.FakeAws(stored=stored))
    assert len(catalogue.verifications(fakes.site(), world)) == 20
    found = catalogue.verifications(fakes.site(), world, until_passed=True)
    assert [each.began for each in found if each.passed] == [passed[0].began]
    assert found == tuple(sorted(found, key=lambda each: each.began))


@pytest.mark.parametrize(
    ("drills", "since", "words"),
    [
        ([], None, ""),
        ([], NOW - timedelta(days=8), ""),
        ([], NOW - timedelta(days=8, seconds=1), "no drill has restored a backup yet"),
        ([drilled(8)], LONG_AGO, ""),
        ([drilled(8.01)], LONG_AGO, "the last drill was 8 days ago, and backup.drill_days is 7"),
        ([drilled(1, "row counts differ")], NOW, "the drill of 2026-11-22 05:30 UTC failed: row counts differ"),
        ([drilled(1, "row counts differ"), drilled(0)], LONG_AGO, ""),
        ([drilled(0, "row counts differ"), drilled(1)], LONG_AGO, "failed"),
    ],
)
def test_a_failed_or_overdue_drill_is_reported(drills: list[Drill], since: datetime | None, words: str) -> None:
    problem = records.check_drills(drills, 7, since, NOW)
    assert (words in problem) if words else not problem


@pytest.mark.parametrize(
    ("verifications", "since", "words"),
    [
        ([], None, ""),
        ([], NOW - timedelta(days=2), ""),
        ([], NOW - timedelta(days=2.1), "no backup was verified yet"),
        ([verified(2)], NOW - timedelta(days=5), ""),
        ([verified(3.5)], NOW - timedelta(days=5), "the last verification was 3 days ago"),
        ([verified(0, 1, "a bit")], NOW, "the verification of 2026-11-23 05:30 UTC failed: a bit"),
        ([verified(1, 1, "a bit"), verified(0, 2)], NOW, ""),
        (daily(SHARES), LONG_AGO, ""),
        (daily(SHARES - 1), LONG_AGO, "share 7/7 of the packs was not read for 9 days"),
        (daily(SHARES - 1), NOW - timedelta(days=9), ""),
        ([verified(0, 1)], LONG_AGO, "share 2/7, 3/7, 4/7, 5/7, 6/7, 7/7"),
    ],
)
def test_a_failed_overdue_or_partial_verification_is_reported(
    verifications: list[Verification], since: datetime | None, words: str
) -> None:
    problem = records.check_verifications(verifications, since, NOW)
    assert (words in problem) if words else not problem


def test_a_backup_has_the_dates_of_its_last_passed_verification_and_drill() -> None:
    backups = [Backup("20261123T110000Z", None), Backup("20261122T110000Z", None)]
    checked, other = records.with_records(
        backups, [verified(2), verified(3), verified(1, 1, "a bit")], [drilled(4), drilled(0, "late")]
    )
    assert (checked.verified, checked.drilled) == (NOW - timedelta(days=2), NOW - timedelta(days=4))
    assert (other.verified, other.drilled) == (None, None)


def test_an_unreadable_record_counts_as_failed() -> None:
    aws = fakes.FakeAws(
        stored={
            "drills/20261122T000000Z.json": records.to_json(drilled(1)),
            "drills/20261123T000000Z.json": records.to_json(drilled(0))[:40],
            "verifications/20261123T000000Z.json": b"rubbish",
            "verifications/rubbish": b"rubbish",
        }
    )
    world = fakes.FakeWorld(aws=aws)
    one, two = catalogue.drills(fakes.site(), world)  # type: ignore[arg-type]
    assert (one.passed, two.passed, two.began) == (True, False, datetime(2026, 11, 23, tzinfo=UTC))
    three, four = catalogue.verifications(fakes.site(), world)  # type: ignore[arg-type]
    assert (three.passed, four.passed, four.began.year) == (False, False, 1)


def test_a_failed_or_missing_drill_is_reported_before_a_change_of_the_site() -> None:
    aws = fakes.FakeAws()
    world: Any = fakes.FakeWorld(aws=aws, clock=fakes.FakeClock(NOW))
    assert not catalogue.drill_overdue(fakes.site(), world)
    aws.stored["manifests/20261101T000000Z.json"] = b""
    assert "no drill has restored a backup yet" in catalogue.drill_overdue(fakes.site(), world)
    aws.stored["drills/20261123T000000Z.json"] = records.to_json(drilled(0, "row counts differ"))
    assert "row counts differ" in catalogue.drill_overdue(fakes.site(), world)


@pytest.mark.parametrize(
    ("drills", "names_accept"),
    [
        ([], False),
        ([drilled(1)], False),
        ([drilled(1, "git fsck of a/b.git: missing blob")], True),
        ([drilled(1, "git fsck of a/b.git: missing blob"), drilled(0)], False),
        ([drilled(2), drilled(1, "a/b.git cannot be cloned: 403", "k cannot sign in: 401")], True),
        ([drilled(1, "a/b.git cannot be cloned: 403", "table user has 1 rows of 2")], False),
        ([drilled(1), drilled(-9, "git fsck of a/b.git: missing blob")], False),
    ],
    ids=[
        "no drill",
        "passed",
        "acceptable",
        "passed since",
        "two",
        "also one that cannot be accepted",
        "in the future",
    ],
)
def test_the_remedy_of_a_failed_drill_names_accept_if_all_its_findings_may_be_accepted(
    drills: list[Drill], names_accept: bool
) -> None:
    assert ("--accept" in records.drill_remedy(drills, NOW)) is names_accept
    assert records.drill_remedy(drills, NOW).startswith("ops restore --drill")


def test_a_record_is_stored_as_a_document_with_a_schema_and_sorted_keys() -> None:
    assert records.to_json(verified(0, 3, "a bit")) == (
        b'{\n "began": "2026-11-23T05:30:00+00:00",\n "durations": {\n  "remote": 1.5\n },\n "findings": [\n  "a bit"\n ],\n'
        b' "identity": "20261123T110000Z",\n "passed": false,\n "schema": 1,\n "share": 3\n}'
    )
    assert json.loads(records.to_json(drilled(0))) == {
        "schema": 1,
        "passed": True,
        "began": "2026-11-23T05:30:00+00:00",
        "identity": "20261123T110000Z",
        "rto_seconds": 41.2,
        "rpo_seconds": 540.0,
        "findings": [],
        "durations": {},
    }


def test_a_drill_s_record_is_read_back_and_a_truncated_one_is_refused() -> None:
    known = dataclasses.replace(drilled(1), accepted=("an old fault",), notes=("slow",))
    for each in (drilled(0), known, dataclasses.replace(drilled(2, "one", "two"), durations={"restore": 2.5})):
        assert records.drill_from_json(records.to_json(each)) == each
    with pytest.raises(OpsError, match="a drill's record is truncated"):
        records.drill_from_json(records.to_json(drilled(0))[:-2])


def test_a_record_s_key_has_its_kind_and_its_moment() -> None:
    assert records.key_of(records.DRILLS, NOW) == "drills/20261123T053000Z.json"
    assert records.key_of(records.VERIFICATIONS, NOW) == "verifications/20261123T053000Z.json"
    assert records.key_of(records.PRUNES, NOW) == "prunes/20261123T053000Z.json"


def test_a_prune_is_stored_as_a_document_with_sorted_keys() -> None:
    assert records.prune_to_json(NOW, 3) == b'{"began": "2026-11-23T05:30:00+00:00", "removed": 3, "schema": 1}'


def test_a_drill_is_due_half_a_day_early_and_at_once_after_a_failed_or_without_any() -> None:
    assert records.due([], 7, NOW)
    assert records.due([drilled(6.5)], 7, NOW)
    assert not records.due([drilled(6.49)], 7, NOW)
    assert records.due([drilled(0, "row counts differ")], 7, NOW)
    assert not records.due([drilled(0), drilled(1, "row counts differ")], 7, NOW)
    # The order of the records does not matter.
    assert records.due([drilled(1, "row counts differ"), drilled(2)], 7, NOW)
    assert records.due([drilled(2), drilled(1, "row counts differ")], 7, NOW)


def test_a_record_counts_up_to_five_minutes_in_the_future_to_the_second() -> None:
    drift = timedelta(minutes=5)
    just, later = (dataclasses.replace(drilled(0), began=NOW + each) for each in (drift, drift + timedelta(seconds=1)))
    assert not records.due([just], 7, NOW)
    assert records.due([later], 7, NOW)


def test_the_first_share_is_missed_and_a_share_of_another_number_is_ignored() -> None:
    foreign = verified(1, SHARES + 1)
    others = [verified(1, share) for share in range(2, SHARES + 1)]
    assert records.check_verifications([foreign, *others], LONG_AGO, NOW) == (
        "share 1/7 of the packs was not read for 9 days"
    )
    assert records.check_verifications([foreign, *others, verified(1, 1)], LONG_AGO, NOW) == ""


@pytest.mark.parametrize(
    ("last", "since", "words"),
    [
        (None, None, ""),
        (None, 30, ""),
        (None, 31, "no prune in the 31 days since the oldest backup"),
        (30, 400, ""),
        (31, 400, "the last prune was 31 days ago"),
    ],
)
def test_a_prune_is_due_after_30_days(last: int | None, since: int | None, words: str) -> None:
    moment, oldest = (None if days is None else NOW - timedelta(days=days) for days in (last, since))
    assert records.check_prune(moment, oldest, NOW) == words
