"""Releases: the version in a tag, which of two is newer, and the size of the step between them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from ops.errors import Refused

# Variants of an image, which keep their data elsewhere or in another form. An update never changes the variant.
_VARIANTS = ("rootless", "alpine", "slim", "perl", "otel", "bookworm", "trixie")
_EVEN_BRANCHES = frozenset({"nginx", "haproxy"})
_TAG = re.compile(r"(v?)(\d+(?:\.\d+)*)(?:-([A-Za-z0-9_.-]+))?")


class VersionStep(IntEnum):
    """The size of a step: to another digest of the same tag, or to another version."""

    NONE = 0
    DIGEST = 1
    PATCH = 2
    MINOR = 3
    MAJOR = 4


@dataclass(frozen=True)
class Release:
    """The version in a tag: its numbers, the prefix before them ("v") and the suffix after them ("rootless", "rc1")."""

    tag: str
    prefix: str
    numbers: tuple[int, ...]
    suffix: str

    @property
    def variant(self) -> str:
        """The variant of the image; "" for the plain one and for pre-releases."""
        return next((variant for variant in _VARIANTS if variant in self.suffix.split("-")), "")


def release_from(tag: str) -> Release | None:
    """Return the release of a tag; None for a tag without a version ("latest", a commit)."""
    found = _TAG.fullmatch(tag)
    if not found:
        return None
    numbers = tuple(int(part) for part in found[2].split("."))
    return Release(tag, found[1], numbers, found[3] or "")


def position(service: str, release: Release) -> tuple[int, int, int]:
    """Return a version as (major, minor, patch), whatever numbering its project uses.

    Gitea's quarterly releases were 1.26 and 1.27 and are 28 and 29 (go-gitea/gitea: docs/release-management.md). Each is a
    major version, with a migration and breaking changes. PostgreSQL has two numbers; the second never changes its data.
    """
    first, second, third = (*release.numbers, 0, 0, 0)[:3]
    if service == "gitea" and first == 1:
        return (second, 0, third)
    return (first, second, third)


def is_newer(service: str, target: Release, current: Release) -> bool:
    """Tell whether ``target`` is newer than ``current``. A pre-release (28.1.0-rc1) is older than its release."""
    return _order(service, target) > _order(service, current)


def step_between(service: str, current: Release, target: Release) -> VersionStep:
    """Return the size of the step from one release to a newer one; NONE if it is not newer."""
    if not is_newer(service, target, current):
        return VersionStep.NONE
    before, after = position(service, current), position(service, target)
    if before[0] != after[0]:
        return VersionStep.MAJOR
    return VersionStep.MINOR if before[1] != after[1] else VersionStep.PATCH


def newer_releases(service: str, current: Release, tags: Iterable[str]) -> tuple[Release, ...]:
    """Return the newer releases among a registry's tags, the newest first: of the same variant and at least as stable.

    nginx's stable branches have an even second number (nginx.org, "download"), and so have those of HAProxy that are supported
    for years (haproxy.org, "Maintained versions").
    """
    found = [each for each in map(release_from, tags) if each and _is_comparable(service, current, each)]
    newer = [each for each in found if is_newer(service, each, current)]
    return tuple(sorted(newer, key=lambda each: _order(service, each), reverse=True))


def require_upgrade(service: str, current: Release, tag: str) -> Release:
    """Return the release of a tag that an operator gave; raises Refused if it is not a step forward of the same image."""
    target = release_from(tag)
    if target is None:
        raise _refused(f"{tag} has no version", f"run ops update --check and choose a version of {service}")
    if target.variant != current.variant:
        raise _refused(
            f"{tag} is another variant of the image than {current.tag} and keeps its data in another form",
            f"give a version of the variant in use: ops update {service} --to TAG",
        )
    if (target.prefix, len(target.numbers)) != (current.prefix, len(current.numbers)):
        raise _refused(
            f"{tag} is not written like {current.tag}: a tag that moves is not a version",
            f"give all numbers of the version; run ops update --check for those of {service}",
        )
    if not is_newer(service, target, current) and target != current:
        raise _refused(
            f"{tag} is older than {current.tag} and cannot read its data",
            "run ops rollback, which puts back the data from before the last update",
        )
    return target


def _refused(message: str, hint: str) -> Refused:
    return Refused(message, hint, left_as="nothing was changed")


def _order(service: str, release: Release) -> tuple[tuple[int, int, int], tuple[int, ...], bool, str]:
    plain = not release.suffix or bool(release.variant)
    return (position(service, release), release.numbers, plain, release.suffix)


def _is_comparable(service: str, current: Release, target: Release) -> bool:
    """Whether two releases are written alike, and the target is stable if the current one is."""
    one = (current.prefix, current.suffix, len(current.numbers))
    other = (target.prefix, target.suffix, len(target.numbers))
    if one != other:
        return False
    if service not in _EVEN_BRANCHES or len(current.numbers) < 2:
        return True
    return bool(current.numbers[1] % 2 or not target.numbers[1] % 2)
