"""Releases: what a tag says, which of two is newer, how big the step between them is, and who may take it, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from ops.errors import Refused

# Other builds of the same version, which keep their data elsewhere or otherwise: never a step, whoever asks for it.
_KINDS = ("rootless", "alpine", "slim", "perl", "otel", "bookworm", "trixie")
_TAG = re.compile(r"(v?)(\d+(?:\.\d+)*)(?:-([A-Za-z0-9_.-]+))?")


class VersionStep(IntEnum):
    """How big a step is: to other bytes under the same tag, or to another version."""

    NONE = 0
    DIGEST = 1
    PATCH = 2
    MINOR = 3
    MAJOR = 4


@dataclass(frozen=True)
class Release:
    """What a tag says: its numbers, with what stands before them ("v") and what is put behind ("rootless", "rc1")."""

    tag: str
    prefix: str
    numbers: tuple[int, ...]
    suffix: str

    @property
    def kind(self) -> str:
        """Which build of the version it is; "" for the plain one, or one on the way to a release."""
        return next((kind for kind in _KINDS if kind in self.suffix.split("-")), "")


def release_from(tag: str) -> Release | None:
    """Return what a tag says; None for one that names no version ("latest", a commit)."""
    found = _TAG.fullmatch(tag)
    if not found:
        return None
    numbers = tuple(int(part) for part in found[2].split("."))
    return Release(tag, found[1], numbers, found[3] or "")


def position(service: str, release: Release) -> tuple[int, int, int]:
    """Return a version as (major, minor, patch), whatever way its project counts.

    Gitea's quarterly releases were 1.26, 1.27 and are 28, 29 (go-gitea/gitea: docs/release-management.md): each is a major
    one, with a migration and changes that break. PostgreSQL has two numbers, and a second one never changes its data.
    """
    first, second, third = (*release.numbers, 0, 0, 0)[:3]
    if service == "gitea" and first == 1:
        return (second, 0, third)
    return (first, second, third)


def is_newer(service: str, there: Release, here: Release) -> bool:
    """Tell whether a release follows another. What leads to a release (28.1.0-rc1) comes before it."""
    return _order(service, there) > _order(service, here)


def step_between(service: str, here: Release, there: Release) -> VersionStep:
    """Return how big the step from one release to a newer one is; NONE when it is not newer."""
    if not is_newer(service, there, here):
        return VersionStep.NONE
    before, after = position(service, here), position(service, there)
    if before[0] != after[0]:
        return VersionStep.MAJOR
    return VersionStep.MINOR if before[1] != after[1] else VersionStep.PATCH


def following(service: str, here: Release, tags: Iterable[str]) -> tuple[Release, ...]:
    """Return the releases of a registry that follow, the newest first: as plain as the one in use, and as stable.

    nginx's stable branches have an even second number (nginx.org, "download").
    """
    found = [each for each in map(release_from, tags) if each and _alike(service, here, each)]
    newer = [each for each in found if is_newer(service, each, here)]
    return tuple(sorted(newer, key=lambda each: _order(service, each), reverse=True))


def require_kin(service: str, here: Release, wanted: str) -> Release:
    """Return the release that an operator names; raises Refused for one that is no step forward of the same image."""
    there = release_from(wanted)
    if there is None:
        raise Refused(f"{wanted} names no version", f"ops update --check names those of {service}")
    if there.kind != here.kind:
        raise Refused(
            f"{wanted} is another kind of image than {here.tag}, which keeps its data otherwise",
            "a site does not change between them by an update",
        )
    if (there.prefix, len(there.numbers)) != (here.prefix, len(here.numbers)):
        raise Refused(
            f"{wanted} is not written as {here.tag} is: a tag that moves names no version",
            f"give all of its numbers; ops update --check names those of {service}",
        )
    if not is_newer(service, there, here) and there != here:
        raise Refused(
            f"{wanted} is older than {here.tag}, and cannot read what {here.tag} has written",
            "ops rollback goes back, with the data of then",
        )
    return there


def _order(service: str, release: Release) -> tuple[tuple[int, int, int], tuple[int, ...], bool, str]:
    plain = not release.suffix or bool(release.kind)
    return (position(service, release), release.numbers, plain, release.suffix)


def _alike(service: str, here: Release, there: Release) -> bool:
    same = (here.prefix, here.suffix, len(here.numbers)) == (there.prefix, there.suffix, len(there.numbers))
    stable = service != "nginx" or len(here.numbers) < 2 or here.numbers[1] % 2 or not there.numbers[1] % 2
    return same and bool(stable)
