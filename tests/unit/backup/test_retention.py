"""Retention: a table of policies and times, and properties that hold for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.backup.manifest import Backup, identity_of
from ops.backup.retention import Candidate, Decision, candidates_from, plan_retention, table
from ops.config.schema import Backup as Policy
from tests.support import fakes


def policy(last: int, daily: int = 0, weekly: int = 0, monthly: int = 0) -> Policy:
    return Policy(bucket="some", keep_last=last, keep_daily=daily, keep_weekly=weekly, keep_monthly=monthly)


def made(*texts: str) -> list[Candidate]:
    """Backups of these times of 2026, "MM-DD HH:MM"; followed by v for verified, b for broken, l for lost."""
    found = []
    for text in texts:
        moment = datetime.fromisoformat(f"2026-{text[:11]}:00+00:00")
        marks = text[11:]
        whole = "b" not in marks and "l" not in marks
        found.append(Candidate(identity_of(moment), moment, whole, verified="v" in marks, lost="l" in marks))
    return found


def short(decisions: tuple[Decision, ...]) -> list[str]:
    """The kept backups, as the table writes them."""
    moments = [
        datetime.strptime(each.identity, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for each in decisions if each.kept
    ]
    return [f"{each:%m-%d %H:%M}" for each in moments]


HOURS = ("11-23 12:00", "11-23 11:00", "11-23 10:00", "11-22 23:00", "11-22 01:00", "11-15 12:00", "11-01 09:00")


@pytest.mark.parametrize(
    ("requested", "candidates", "kept"),
    [
        (policy(1), (), []),
        (policy(1), HOURS, ["11-23 12:00"]),
        (policy(3), HOURS, ["11-23 12:00", "11-23 11:00", "11-23 10:00"]),
        # The last of a day; a day without a backup does not count.
        (policy(1, daily=2), HOURS, ["11-23 12:00", "11-22 23:00"]),
        (policy(1, daily=3), HOURS, ["11-23 12:00", "11-22 23:00", "11-15 12:00"]),
        # ISO weeks: 22 and 23 November 2026 are a Sunday and the Monday of the next week.
        (policy(1, weekly=2), HOURS, ["11-23 12:00", "11-22 23:00"]),
        (policy(1, weekly=3), HOURS, ["11-23 12:00", "11-22 23:00", "11-15 12:00"]),
        (policy(1, monthly=2), (*HOURS, "10-31 23:59", "10-02 00:00"), ["11-23 12:00", "10-31 23:59"]),
        (policy(1, weekly=1, monthly=1), ("01-01 00:00", "12-31 00:00"), ["12-31 00:00"]),
        (policy(2, 2, 2, 2), HOURS, ["11-23 12:00", "11-23 11:00", "11-22 23:00"]),
        # The newest verified backup is kept whatever the policy says, an older verified one is not.
        (policy(1), ("11-23 12:00", "11-22 12:00v", "11-21 12:00v"), ["11-23 12:00", "11-22 12:00"]),
        # A broken backup does not count. One with lost parts is removed when a newer one is whole; others are for the operator.
        (policy(1), ("11-23 12:00b", "11-23 11:00", "11-23 10:00"), ["11-23 12:00", "11-23 11:00"]),
        (policy(1), ("11-23 12:00l", "11-23 11:00", "11-23 10:00l"), ["11-23 12:00", "11-23 11:00"]),
        (policy(1), ("11-23 12:00l", "11-23 11:00b"), ["11-23 12:00", "11-23 11:00"]),
    ],
)
def test_a_policy_keeps_the_expected_backups(requested: Policy, candidates: tuple[str, ...], kept: list[str]) -> None:
    assert short(plan_retention(made(*candidates), requested)) == kept
    assert short(plan_retention(reversed(made(*candidates)), requested)) == kept


def test_the_table_gives_every_reason_for_each_backup() -> None:
    candidates = made("11-23 12:00", "11-23 11:00", "11-22 23:00v", "11-01 09:00", "10-01 09:00l", "09-01 09:00b")
    assert table(plan_retention(candidates, policy(1, daily=2, weekly=1, monthly=1))) == (
        "20261123T120000Z  keep    newest; 1 of the last 1; day 2026-11-23; week 2026-W48; month 2026-11",
        "20261123T110000Z  REMOVE  no rule keeps it",
        "20261122T230000Z  keep    newest verified; day 2026-11-22",
        "20261101T090000Z  REMOVE  no rule keeps it",
        "20261001T090000Z  REMOVE  broken: parts are missing, and a newer backup is whole",
        "20260901T090000Z  keep    broken: check it with ops backup list",
    )


POLICIES = st.builds(policy, st.integers(1, 9), *[st.integers(0, 5)] * 3)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def drawn(numbers: list[int]) -> list[Candidate]:
    """Backups by the hour of 2026, with a last digit: 0 to 2 verified, 3 to 7 whole, 8 broken, 9 lost."""
    found = []
    for hour, kind in (divmod(each, 10) for each in numbers):
        moment = BEGIN + timedelta(hours=hour)
        found.append(Candidate(identity_of(moment), moment, kind < 8, kind < 3, kind == 9))
    return found


# One number each: drawing more takes longer than planning.
CANDIDATES = st.lists(st.integers(0, 90_009), max_size=14, unique_by=lambda each: each // 10).map(drawn)


@given(CANDIDATES, POLICIES)
def test_the_newest_whole_and_the_newest_verified_backup_are_always_kept(
    candidates: list[Candidate], requested: Policy
) -> None:
    kept = {each.identity for each in plan_retention(candidates, requested) if each.kept}
    whole = [each for each in candidates if each.whole]
    for protected in (whole, [each for each in whole if each.verified]):
        newest = max(protected, key=lambda each: (each.moment, each.identity), default=None)
        assert newest is None or newest.identity in kept


@given(CANDIDATES, POLICIES)
def test_every_backup_has_one_decision_and_a_reason_for_it(candidates: list[Candidate], requested: Policy) -> None:
    decisions = plan_retention(candidates, requested)
    assert sorted(each.identity for each in decisions) == sorted(each.identity for each in candidates)
    assert all(each.reasons and all(each.reasons) for each in decisions)


@given(CANDIDATES, POLICIES)
def test_a_second_plan_after_the_first_removes_nothing(candidates: list[Candidate], requested: Policy) -> None:
    kept = {each.identity for each in plan_retention(candidates, requested) if each.kept}
    rest = [each for each in candidates if each.identity in kept]
    assert {each.identity for each in plan_retention(rest, requested) if each.kept} == kept


@given(CANDIDATES, POLICIES, st.sampled_from(["keep_last", "keep_daily", "keep_weekly", "keep_monthly"]))
def test_a_policy_that_keeps_more_of_one_kind_still_keeps_the_same_backups(
    candidates: list[Candidate], requested: Policy, kind: str
) -> None:
    more = policy(
        requested.keep_last + (kind == "keep_last"),
        requested.keep_daily + (kind == "keep_daily"),
        requested.keep_weekly + (kind == "keep_weekly"),
        requested.keep_monthly + (kind == "keep_monthly"),
    )
    before = {each.identity for each in plan_retention(candidates, requested) if each.kept}
    assert before <= {each.identity for each in plan_retention(candidates, more) if each.kept}


@given(CANDIDATES, POLICIES)
def test_a_new_backup_replaces_at_most_one_of_each_kind(candidates: list[Candidate], requested: Policy) -> None:
    newest = max((each.moment for each in candidates), default=BEGIN) + timedelta(days=1)
    before = [each.identity for each in plan_retention(candidates, requested) if each.kept]
    decisions = plan_retention([*candidates, Candidate(identity_of(newest), newest)], requested)
    gone = set(before) - {each.identity for each in decisions if each.kept}
    lost = {each.identity for each in candidates if each.lost}
    assert len(gone - lost) <= 5  # newest, last, day, week, month


def test_a_broken_backup_has_the_age_in_its_name_and_a_foreign_name_is_the_oldest() -> None:
    found = candidates_from([Backup("20261123T120000Z", None, "cut off"), Backup("notes", None, "cut off")])
    assert [each.moment.year for each in found] == [2026, 1]
    (kept, notes) = plan_retention(found, fakes.site().backup)
    assert (kept.identity, notes.identity, kept.kept, notes.kept) == ("20261123T120000Z", "notes", True, True)


def test_a_candidate_is_whole_unverified_and_not_lost_by_default() -> None:
    moment = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    plain = Candidate("20261123T120000Z", moment)
    assert (plain.whole, plain.verified, plain.lost) == (True, False, False)


def test_a_candidate_has_the_moment_of_the_manifest_and_the_flags_of_the_backup() -> None:
    moment = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    made_then = fakes.made(moment)
    verified = Backup("20261123T120000Z", made_then, verified=moment + timedelta(hours=1))
    # The manifest's moment counts, not the one in the name.
    other_name = Backup("20261001T000000Z", made_then)
    broken = Backup("20261001T000000Z", None, "data missing", lost=True)
    assert candidates_from([verified, other_name, broken]) == (
        Candidate("20261123T120000Z", moment, whole=True, verified=True, lost=False),
        Candidate("20261001T000000Z", moment, whole=True, verified=False, lost=False),
        Candidate("20261001T000000Z", datetime(2026, 10, 1, tzinfo=UTC), whole=False, verified=False, lost=True),
    )


def test_a_lost_backup_of_the_same_moment_as_the_newest_whole_one_is_kept() -> None:
    moment = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    whole = Candidate("one", moment)
    lost = Candidate("two", moment, whole=False, lost=True)
    older = Candidate("three", moment - timedelta(seconds=1), whole=False, lost=True)
    decisions = plan_retention([whole, lost, older], policy(1))
    assert {each.identity: each.kept for each in decisions} == {"one": True, "two": True, "three": False}
