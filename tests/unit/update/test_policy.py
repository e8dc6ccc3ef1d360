"""The approval that a step needs, which release is applied without one, and when a window opens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import ConfigError
from ops.images import versions as images_versions
from ops.images.versions import Release, VersionStep
from ops.update import policy as update_policy
from ops.update.policy import Approval, AvailableVersions

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def release(tag: str) -> Release:
    found = images_versions.release_from(tag)
    assert found
    return found


@pytest.mark.parametrize(
    ("service", "step", "policy", "held", "approval"),
    [
        ("nginx", VersionStep.PATCH, "minor", False, Approval.AUTOMATIC),
        ("nginx", VersionStep.MINOR, "minor", False, Approval.AUTOMATIC),
        ("nginx", VersionStep.MAJOR, "minor", False, Approval.OPERATOR),
        ("nginx", VersionStep.DIGEST, "patch", False, Approval.AUTOMATIC),
        ("gitea", VersionStep.PATCH, "patch", False, Approval.AUTOMATIC),
        ("gitea", VersionStep.MINOR, "patch", False, Approval.OPERATOR),
        ("gitea", VersionStep.MAJOR, "minor", False, Approval.OPERATOR),
        ("gitea", VersionStep.DIGEST, "operator", False, Approval.OPERATOR),
        ("gitea", VersionStep.NONE, "minor", False, Approval.OPERATOR),
        ("postgres", VersionStep.MINOR, "operator", False, Approval.OPERATOR),
        ("postgres", VersionStep.MAJOR, "minor", False, Approval.GUIDED),
        ("nginx", VersionStep.PATCH, "minor", True, Approval.HELD),
    ],
)
def test_the_policy_decides_which_approval_a_step_needs(
    service: str, step: VersionStep, policy: str, held: bool, approval: Approval
) -> None:
    assert update_policy.approval_for(service, step, policy, held=held) is approval


def chosen(build_times: dict[str, datetime | None], policy: str = "minor", *, held: bool = False) -> AvailableVersions:
    current = release("4.33.0")
    found = images_versions.newer_releases("diun", current, build_times)
    return update_policy.choose(
        "diun", current, found, policy=policy, held=held, build_times=build_times, soak=timedelta(hours=72), now=NOW
    )


def test_a_release_that_is_too_young_waits_and_an_older_one_is_applied_meanwhile() -> None:
    fresh, old = NOW - timedelta(hours=71), NOW - timedelta(hours=72)
    available = chosen({"4.33.1": old, "4.34.0": fresh, "5.0.0": old})
    assert available == AvailableVersions(
        release("5.0.0"), release("4.33.1"), release("4.34.0"), fresh, release("4.34.0")
    )
    assert chosen({"4.33.1": old, "4.34.0": old}).automatic == release("4.34.0")
    assert chosen({"4.33.1": fresh, "4.34.0": old}).waiting is None


def test_the_newest_release_of_the_current_major_version_is_given_if_another_major_is_out() -> None:
    assert chosen({"4.33.1": None, "4.34.0": None, "5.0.0": None}, "operator", held=True).newest_in_major == release(
        "4.34.0"
    )
    assert chosen({"4.33.1": None, "4.34.0": None}).newest_in_major is None
    assert chosen({"5.0.0": None}).newest_in_major is None


@pytest.mark.parametrize("build_times", [None, datetime(1970, 1, 1, tzinfo=UTC), NOW + timedelta(hours=1)])
def test_a_release_without_a_credible_build_time_needs_an_operator(build_times: datetime | None) -> None:
    available = chosen({"4.33.1": build_times})
    assert (available.newest, available.automatic, available.waiting) == (release("4.33.1"), None, release("4.33.1"))


def test_nothing_is_automatic_for_a_held_service_or_under_the_operator_policy() -> None:
    build_times: dict[str, datetime | None] = {"4.33.1": NOW - timedelta(days=9)}
    assert chosen(build_times, held=True) == AvailableVersions(release("4.33.1"))
    assert chosen(build_times, "operator") == AvailableVersions(release("4.33.1"))
    assert chosen({}) == AvailableVersions()


def moment(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("window", "now", "begin"),
    [
        # An ordinary week.
        ("Sun 03:15", "2026-11-25T12:00", "2026-11-22T02:15+00:00"),
        ("Sun 03:15", "2026-11-22T03:14", "2026-11-15T02:15+00:00"),
        ("Sun 03:15", "2026-11-22T03:15", "2026-11-22T02:15+00:00"),
        # 2026-03-29 in Berlin: 03:00 follows 02:00, and 02:30 does not exist.
        ("Sun 02:30", "2026-03-29T03:29", "2026-03-22T01:30+00:00"),
        ("Sun 02:30", "2026-03-29T03:30", "2026-03-29T01:30+00:00"),
        # 2026-10-25: 02:30 occurs twice, and the first counts.
        ("Sun 02:30", "2026-10-25T12:00", "2026-10-25T00:30+00:00"),
    ],
)
def test_a_window_opens_at_the_site_s_local_time(window: str, now: str, begin: str) -> None:
    weekly = update_policy.window_from(window, "Europe/Berlin")
    assert update_policy.begun(weekly, moment(now, "Europe/Berlin")) == datetime.fromisoformat(begin)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Etc/UTC", "Pacific/Auckland"]),
    st.sampled_from(update_policy.WEEKDAYS),
    st.times(),
    st.timedeltas(timedelta(0), timedelta(days=1500)),
)
def test_every_week_has_exactly_one_window(zone: str, day: str, at: object, later: timedelta) -> None:
    window = update_policy.window_from(f"{day} {str(at)[:5]}", zone)
    begin = update_policy.begun(window, NOW + later)
    for _ in range(60):
        newer_releases = update_policy.next_begin(window, begin)
        assert timedelta(days=7, hours=-1) <= newer_releases - begin <= timedelta(days=7, hours=1)
        assert update_policy.begun(window, newer_releases - timedelta(seconds=1)) == begin
        begin = newer_releases


def test_updates_are_due_once_in_a_window_and_not_long_after_it() -> None:
    window = update_policy.window_from("Sun 03:15", "Europe/Berlin")
    begin = datetime(2026, 11, 22, 2, 15, tzinfo=UTC)
    assert update_policy.is_due(window, None, begin)
    assert update_policy.is_due(window, begin - timedelta(days=7), begin + timedelta(hours=1))
    assert not update_policy.is_due(window, begin, begin + timedelta(hours=1))
    assert not update_policy.is_due(window, None, begin - timedelta(seconds=1))
    assert not update_policy.is_due(window, None, begin + timedelta(hours=2))
    # A clock that was wrong recorded this time: updates do not wait for it.
    assert update_policy.is_due(window, begin + timedelta(days=300), begin + timedelta(hours=1))


@pytest.mark.parametrize(
    ("text", "zone"), [("Sonntag 03:15", "Etc/UTC"), ("Sun 3", "Etc/UTC"), ("Sun 03:15", "Mars/Base")]
)
def test_a_text_that_is_not_a_time_of_the_week_is_refused(text: str, zone: str) -> None:
    with pytest.raises(ConfigError, match="not a time of the week"):
        update_policy.window_from(text, zone)


def test_each_approval_has_its_json_name() -> None:
    assert {each.name: each.value for each in Approval} == {
        "AUTOMATIC": "automatic",
        "OPERATOR": "operator",
        "GUIDED": "guided",
        "HELD": "held",
    }


def test_the_policies_of_the_site_file_are_operator_patch_and_minor() -> None:
    assert update_policy.POLICIES == ("operator", "patch", "minor")


def test_a_service_is_not_held_by_default() -> None:
    assert update_policy.approval_for("nginx", VersionStep.PATCH, "minor") is Approval.AUTOMATIC


def test_a_release_is_old_enough_after_the_soak_to_the_second_and_from_2020_on() -> None:
    soak = timedelta(hours=72)
    assert update_policy.is_old_enough(NOW - soak, soak, NOW)
    assert not update_policy.is_old_enough(NOW - soak + timedelta(seconds=1), soak, NOW)
    assert update_policy.is_old_enough(datetime(2020, 1, 1, tzinfo=UTC), soak, NOW)
    assert not update_policy.is_old_enough(datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC), soak, NOW)
    assert not update_policy.is_old_enough(None, soak, NOW)


def test_the_waiting_release_is_newer_than_the_automatic_one() -> None:
    old, fresh = NOW - timedelta(hours=80), NOW - timedelta(hours=1)
    assert chosen({"4.33.1": fresh, "4.33.2": old}).waiting is None
    choice = chosen({"4.33.1": fresh, "4.33.2": old, "4.33.3": fresh})
    assert (choice.automatic, choice.waiting, choice.built) == (release("4.33.2"), release("4.33.3"), fresh)
    alone = chosen({"4.33.1": fresh})
    assert (alone.automatic, alone.waiting, alone.built) == (None, release("4.33.1"), fresh)


@pytest.mark.parametrize(
    ("day", "number"), [("Mon", 0), ("Tue", 1), ("Wed", 2), ("Thu", 3), ("Fri", 4), ("Sat", 5), ("Sun", 6)]
)
def test_a_window_is_on_the_weekday_that_the_site_file_names(day: str, number: int) -> None:
    window = update_policy.window_from(f"{day} 03:15", "Etc/UTC")
    assert (window.weekday, window.at.isoformat(), window.zone.key) == (number, "03:15:00", "Etc/UTC")


@pytest.mark.parametrize("before", [timedelta(seconds=1), timedelta(hours=12), timedelta(days=3), timedelta(days=7)])
def test_the_next_window_is_the_first_one_after_now(before: timedelta) -> None:
    window = update_policy.window_from("Sun 03:15", "Europe/Berlin")
    begin = datetime(2026, 11, 22, 2, 15, tzinfo=UTC)
    assert update_policy.next_begin(window, begin - before) == begin
    # The week with the end of daylight saving time is one hour longer.
    assert update_policy.next_begin(window, datetime(2026, 10, 18, 1, 15, tzinfo=UTC)) == datetime(
        2026, 10, 25, 2, 15, tzinfo=UTC
    )


def test_updates_are_due_once_per_window() -> None:
    window = update_policy.window_from("Sun 03:15", "Europe/Berlin")
    begin = datetime(2026, 11, 22, 2, 15, tzinfo=UTC)
    now = begin + timedelta(hours=1)
    assert not update_policy.is_due(window, now, now)
    assert update_policy.is_due(window, now + timedelta(seconds=1), now)
    assert update_policy.is_due(window, begin - timedelta(seconds=1), now)
    assert not update_policy.is_due(window, begin, now)
    assert update_policy.is_due(window, None, begin + timedelta(hours=2, seconds=-1))
