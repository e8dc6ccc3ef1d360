"""What was proven of backups, until when that counts, and which packs are read next."""

from __future__ import annotations

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
    """So many daily verifications, each of the share that was its turn, the last one now."""
    done: list[Verification] = []
    for day in reversed(range(count)):
        done.append(verified(day, records.choose_share(done, NOW)))
    return done


def test_what_the_bucket_keeps_of_a_verification_is_read_again() -> None:
    for each in (verified(0, 3), verified(0, 7, "one", "two")):
        assert records.verification_from_json(records.to_json(each)) == each
    whole = records.to_json(verified(0))
    for length in range(len(whole) - 1):
        with pytest.raises(OpsError, match="cut off"):
            records.verification_from_json(whole[:length])


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, SHARES + 1), st.booleans())), st.integers(SHARES, 20))
def test_whatever_was_read_before_a_week_of_daily_runs_reads_every_share(
    before: list[tuple[int, int, bool]], days: int
) -> None:
    done = [verified(100 + ago, share, *(["a bit"] if bad else [])) for ago, share, bad in before]
    for day in reversed(range(days)):
        done.append(verified(day, records.choose_share(done, NOW)))
    assert {each.share for each in done[-SHARES:]} == set(range(1, SHARES + 1))


def test_a_record_of_a_time_that_is_yet_to_come_counts_for_nothing() -> None:
    never, early = verified(-400), verified(-400, 1, "a bit")
    for later in (never, early):
        assert records.check_verifications([verified(1), later], LONG_AGO, NOW) == records.check_verifications(
            [verified(1)], LONG_AGO, NOW
        )
        assert records.check_verifications([later], LONG_AGO, NOW) == "no backup was ever verified"
        assert records.choose_share([*daily(SHARES), later], NOW) == records.choose_share(daily(SHARES), NOW)
    for unheld in (drilled(-400), drilled(-400, "rows differ")):
        assert records.due([unheld], 7, NOW)
        assert records.check_drills([drilled(1), unheld], 7, LONG_AGO, NOW) == ""
        assert records.check_drills([unheld], 7, LONG_AGO, NOW) == "no backup was ever restored for practice"
    # A clock that is corrected by a little makes no one wrong.
    assert not records.due([drilled(-1 / 24 / 60)], 7, NOW)


def test_for_the_newest_verified_backup_one_goes_back_as_far_as_to_a_verification_that_was_passed() -> None:
    failed = [verified(day, 1, "a bit") for day in range(30)]
    passed = [verified(40), verified(50)]
    stored = {records.key_of(records.VERIFICATIONS, each.began): records.to_json(each) for each in [*failed, *passed]}
    world: Any = fakes.FakeWorld(aws=fakes.FakeAws(stored=stored))
    assert len(catalogue.verifications(fakes.site(), world)) == 20
    known = catalogue.verifications(fakes.site(), world, until_passed=True)
    assert [each.began for each in known if each.passed] == [passed[0].began]
    assert known == tuple(sorted(known, key=lambda each: each.began))


@pytest.mark.parametrize(
    ("drills", "since", "words"),
    [
        ([], None, ""),
        ([], NOW - timedelta(days=8), ""),
        ([], NOW - timedelta(days=8, seconds=1), "no backup was ever restored for practice"),
        ([drilled(8)], LONG_AGO, ""),
        ([drilled(8.01)], LONG_AGO, "the last drill was 8 days ago, and backup.drill_days is 7"),
        ([drilled(1, "row counts differ")], NOW, "the drill of 2026-11-22 05:30 UTC failed: row counts differ"),
        ([drilled(1, "row counts differ"), drilled(0)], LONG_AGO, ""),
        ([drilled(0, "row counts differ"), drilled(1)], LONG_AGO, "failed"),
    ],
)
def test_a_failed_or_overdue_drill_is_named(drills: list[Drill], since: datetime | None, words: str) -> None:
    said = records.check_drills(drills, 7, since, NOW)
    assert (words in said) if words else not said


@pytest.mark.parametrize(
    ("verifications", "since", "words"),
    [
        ([], None, ""),
        ([], NOW - timedelta(days=2), ""),
        ([], NOW - timedelta(days=2.1), "no backup was ever verified"),
        ([verified(2)], NOW - timedelta(days=5), ""),
        ([verified(3.5)], NOW - timedelta(days=5), "the last verification was 3 days ago"),
        ([verified(0, 1, "a bit")], NOW, "the verification of 2026-11-23 05:30 UTC failed: a bit"),
        ([verified(1, 1, "a bit"), verified(0, 2)], NOW, ""),
        (daily(SHARES), LONG_AGO, ""),
        (daily(SHARES - 1), LONG_AGO, "no one has read share 7/7 of the packs for 9 days"),
        (daily(SHARES - 1), NOW - timedelta(days=9), ""),
        ([verified(0, 1)], LONG_AGO, "share 2/7, 3/7, 4/7, 5/7, 6/7, 7/7"),
    ],
)
def test_a_failed_overdue_or_partial_verification_is_named(
    verifications: list[Verification], since: datetime | None, words: str
) -> None:
    said = records.check_verifications(verifications, since, NOW)
    assert (words in said) if words else not said


def test_a_backup_is_as_verified_and_drilled_as_its_last_passed_proof() -> None:
    there = [Backup("20261123T110000Z", None), Backup("20261122T110000Z", None)]
    proven, other = records.with_records(
        there, [verified(2), verified(3), verified(1, 1, "a bit")], [drilled(4), drilled(0, "late")]
    )
    assert (proven.verified, proven.drilled) == (NOW - timedelta(days=2), NOW - timedelta(days=4))
    assert (other.verified, other.drilled) == (None, None)


def test_a_record_that_cannot_be_read_counts_as_a_proof_that_failed() -> None:
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


def test_whoever_changes_the_site_is_told_that_its_last_drill_failed() -> None:
    aws = fakes.FakeAws()
    world: Any = fakes.FakeWorld(aws=aws, clock=fakes.FakeClock(NOW))
    assert not catalogue.drill_overdue(fakes.site(), world)
    aws.stored["manifests/20261101T000000Z.json"] = b""
    assert "ever restored for practice" in catalogue.drill_overdue(fakes.site(), world)
    aws.stored["drills/20261123T000000Z.json"] = records.to_json(drilled(0, "row counts differ"))
    assert "row counts differ" in catalogue.drill_overdue(fakes.site(), world)
