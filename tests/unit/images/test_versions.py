"""Which of two releases is newer, and the size of the step between them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import Refused
from ops.images import versions as images_versions
from ops.images.versions import Release, VersionStep


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
        ("haproxy", "3.2.26", "3.2.27 3.3.4 3.4.1 3.2 lts 3.2.27-alpine 3.5-dev1", "3.4.1 3.2.27"),
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


def test_the_steps_are_numbered_by_size_from_zero() -> None:
    assert [(each.name, each.value) for each in VersionStep] == [
        ("NONE", 0),
        ("DIGEST", 1),
        ("PATCH", 2),
        ("MINOR", 3),
        ("MAJOR", 4),
    ]


@pytest.mark.parametrize("variant", ["rootless", "alpine", "slim", "perl", "otel", "bookworm", "trixie"])
def test_a_variant_is_a_whole_part_of_the_suffix(variant: str) -> None:
    assert release(f"28.1.0-{variant}").variant == variant
    assert release(f"28.1.0-rc1-{variant}").variant == variant
    assert release(f"28.1.0-{variant}x").variant == ""


@pytest.mark.parametrize(
    ("service", "tag", "expected"),
    [
        ("gitea", "28", (28, 0, 0)),
        ("gitea", "28.1", (28, 1, 0)),
        ("gitea", "28.1.2", (28, 1, 2)),
        ("gitea", "28.1.2.3", (28, 1, 2)),
        ("gitea", "1.27.3", (27, 0, 3)),
        ("gitea", "0.9.1", (0, 9, 1)),
        ("gitea", "2.9.1", (2, 9, 1)),
        ("nginx", "1.30.4", (1, 30, 4)),
    ],
)
def test_a_version_is_read_as_major_minor_and_patch(service: str, tag: str, expected: tuple[int, int, int]) -> None:
    assert images_versions.position(service, release(tag)) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("28.1.0", Release("28.1.0", "", (28, 1, 0), "")),
        ("v5.8", Release("v5.8", "v", (5, 8), "")),
        ("28.1.0-rc1", Release("28.1.0-rc1", "", (28, 1, 0), "rc1")),
        ("latest", None),
        ("28.1.0+build", None),
    ],
)
def test_a_tag_has_a_prefix_numbers_and_a_suffix(tag: str, expected: Release | None) -> None:
    assert images_versions.release_from(tag) == expected


def test_a_variant_of_a_release_is_newer_than_the_release_candidate() -> None:
    assert images_versions.is_newer("gitea", release("28.1.0-rootless"), release("28.1.0-rc1"))
    assert not images_versions.is_newer("gitea", release("28.1.0-rc1"), release("28.1.0-rootless"))


@pytest.mark.parametrize(
    ("current", "tags", "expected"),
    [
        # Even second numbers, divisible by three and not.
        ("1.30.0", "1.30.1 1.31.0 1.33.0", "1.30.1"),
        ("1.32.0", "1.32.1 1.33.0 1.35.0", "1.32.1"),
        # A mainline version gets releases of every branch.
        ("1.33.0", "1.33.1 1.34.0 1.35.0", "1.35.0 1.34.0 1.33.1"),
        ("1.30", "1.31 1.32", "1.32"),
        ("1", "2 3", "3 2"),
    ],
)
def test_a_stable_nginx_gets_only_releases_of_stable_branches(current: str, tags: str, expected: str) -> None:
    found = images_versions.newer_releases("nginx", release(current), tags.split())
    assert " ".join(each.tag for each in found) == expected
