"""Which release is newer, the size of a step, the approval that it needs, and when a window opens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import ConfigError, Refused
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
    ("service", "current", "target", "step"),
    [
        ("gitea", "1.27.2", "1.27.3", VersionStep.PATCH),
        ("gitea", "1.27.3", "28.0.0", VersionStep.MAJOR),
        ("gitea", "1.27.3", "28.1.0", VersionStep.MAJOR),
        ("gitea", "1.22.6", "1.27.3", VersionStep.MAJOR),
        ("gitea", "28.0.1", "28.1.0", VersionStep.MINOR),
        ("gitea", "28.1.0", "28.1.1", VersionStep.PATCH),
        ("gitea", "28.1.0", "29.0.0", VersionStep.MAJOR),
        ("gitea", "28.1.0", "28.0.1", VersionStep.NONE),
        ("gitea", "28.0.0", "1.27.3", VersionStep.NONE),
        ("gitea", "28.1.0-rc1", "28.1.0", VersionStep.PATCH),
        ("gitea", "28.1.0", "28.1.0-rc1", VersionStep.NONE),
        ("postgres", "18.6", "18.10", VersionStep.MINOR),
        ("postgres", "18.6", "19.0", VersionStep.MAJOR),
        ("nginx", "1.30.4", "1.30.10", VersionStep.PATCH),
        ("nginx", "1.30.4", "1.32.0", VersionStep.MINOR),
        ("certbot", "v5.8.0", "v5.9.0", VersionStep.MINOR),
        ("docker-socket-proxy", "v0.5.0", "v0.5.0", VersionStep.NONE),
    ],
)
def test_the_size_of_a_step_follows_the_numbering_of_its_project(
    service: str, current: str, target: str, step: VersionStep
) -> None:
    assert images_versions.step_between(service, release(current), release(target)) is step


@pytest.mark.parametrize(
    ("service", "current", "tags", "expected"),
    [
        (
            "gitea",
            "1.27.3",
            "latest 1 1.27 1.27.3 1.27.2 1.27.4 28 28.0 28.0.0 28.1.0 28.1.0-rootless 28.2.0-rc0 nightly 29.0.0-dev",
            "28.1.0 28.0.0 1.27.4",
        ),
        ("gitea", "28.0.0-rootless", "28.1.0 28.1.0-rootless 1.27.3-rootless", "28.1.0-rootless"),
        ("postgres", "18.6", "18 18.5 18.7 18.10 18.7-alpine 18.7-trixie 19.0 19beta3 latest", "19.0 18.10 18.7"),
        ("nginx", "1.30.4", "1.30.5 1.31.6 1.32.0 1.32 stable mainline 1.30.5-alpine 1.33.0", "1.32.0 1.30.5"),
        ("nginx", "1.31.4", "1.30.5 1.31.5 1.32.0", "1.32.0 1.31.5"),
        ("certbot", "v5.8.0", "v5.8.1 v5.10.0 5.11.0 arm64v8-v5.9.0 nightly", "v5.10.0 v5.8.1"),
        ("diun", "4.33.0", "4.33 4.33.1 5.0.0 edge", "5.0.0 4.33.1"),
    ],
)
def test_newer_releases_are_of_the_same_variant_and_stability_and_the_newest_comes_first(
    service: str, current: str, tags: str, expected: str
) -> None:
    found = images_versions.newer_releases(service, release(current), tags.split())
    assert " ".join(each.tag for each in found) == expected


versions = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))


@settings(deadline=None)
@given(st.lists(versions, max_size=8), versions)
def test_newer_releases_are_sorted_and_complete(
    numbers: list[tuple[int, int, int]], current: tuple[int, int, int]
) -> None:
    def tag(each: tuple[int, int, int]) -> str:
        return ".".join(map(str, each))

    for service in ("gitea", "diun"):
        found = images_versions.newer_releases(service, release(tag(current)), map(tag, numbers))
        assert all(images_versions.is_newer(service, each, release(tag(current))) for each in found)
        assert all(not images_versions.is_newer(service, later, earlier) for earlier, later in pairwise(found))
        rest = {tag(each) for each in numbers} - {each.tag for each in found}
        assert not any(images_versions.is_newer(service, release(each), release(tag(current))) for each in rest)
        assert all(
            images_versions.step_between(service, release(tag(current)), each) > VersionStep.DIGEST for each in found
        )


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


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("latest", "has no version"),
        ("29", "a tag that moves"),
        ("29.0", "a tag that moves"),
        ("v29.0.0", "a tag that moves"),
        ("28.2.0-rootless", "another variant of the image"),
        ("28.0.9", "is older than 28.1.0"),
        ("1.27.3", "is older than 28.1.0"),
        ("28.1.0-rc1", "is older than 28.1.0"),
    ],
)
def test_an_operator_cannot_request_a_tag_that_is_not_a_step_forward(tag: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        images_versions.require_upgrade("gitea", release("28.1.0"), tag)


@pytest.mark.parametrize("tag", ["28.1.0", "28.1.1", "29.0.0", "28.1.1-rc1"])
def test_an_operator_can_request_any_step_forward(tag: str) -> None:
    assert images_versions.require_upgrade("gitea", release("28.1.0"), tag).tag == tag


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
