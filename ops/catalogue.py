"""What the bucket tells of backups without opening one: their names, and the records of what was proven of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from ops import manifest, proofs
from ops.config import Site
from ops.errors import OpsError
from ops.manifest import Manifest, Unreadable
from ops.proofs import Drill, Verification
from ops.world import World

_Record = TypeVar("_Record", Drill, Verification)
# More than what has been between two records that count.
_NEWEST = 20


def moments(site: Site, world: World) -> tuple[datetime, ...]:
    """Return the moments of all backups by the names of their manifests, oldest first. Whether one is whole they do not say."""
    found = []
    for identity in identities(site, world):
        try:
            found.append(manifest.moment_of(identity))
        except Unreadable:
            world.tell(f"{manifest.key_of(identity)} in the bucket is no manifest of a backup")
    return tuple(sorted(found))


def identities(site: Site, world: World) -> tuple[str, ...]:
    """Return the names of all manifests, sorted."""
    keys = world.aws.objects(site.backup.bucket, manifest.PREFIX)
    return tuple(sorted(key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys))


def newest(site: Site, world: World) -> Manifest | None:
    """Return the newest manifest, None when there is none; raises Unreadable when it is not whole."""
    found = moments(site, world)
    if not found:
        return None
    key = manifest.key_of(manifest.identity_of(found[-1]))
    return manifest.read(world.aws.read_object(site.backup.bucket, key))


def drills(site: Site, world: World) -> tuple[Drill, ...]:
    """Return the newest drills, oldest first. One whose record cannot be read is one that failed."""
    return _records(site, world, proofs.DRILLS, proofs.read_drill, lambda when, why: Drill(when, "", 0.0, 0.0, (why,)))


def verifications(site: Site, world: World, *, until_passed: bool = False) -> tuple[Verification, ...]:
    """Return the newest verifications, oldest first. One whose record cannot be read is one that failed.

    ``until_passed`` goes back as far as to one that was passed, should all of those have failed.
    """
    failed: Callable[[datetime, str], Verification] = lambda when, why: Verification(when, "", 0, (why,))  # noqa: E731
    return _records(site, world, proofs.VERIFICATIONS, proofs.read_verification, failed, until_passed=until_passed)


def undrilled(site: Site, world: World) -> str:
    """Return why no change of the site should rely on its backups for want of a passed drill, or "" (proofs.judge_drills)."""
    known = moments(site, world)
    since = known[0] if known else None
    return proofs.judge_drills(drills(site, world), site.backup.drill_days, since, world.clock.now())


def _records(
    site: Site,
    world: World,
    prefix: str,
    read: Callable[[bytes], _Record],
    failed: Callable[[datetime, str], _Record],
    *,
    until_passed: bool = False,
) -> tuple[_Record, ...]:
    found: list[_Record] = []
    for number, key in enumerate(reversed(world.aws.objects(site.backup.bucket, prefix))):
        if number >= _NEWEST and not (until_passed and not any(each.passed for each in found)):
            break
        content = world.aws.read_object(site.backup.bucket, key)
        try:
            found.append(read(content))
        except OpsError as error:
            found.append(failed(_stamp(key), error.message))
    return tuple(reversed(found))


def _stamp(key: str) -> datetime:
    try:
        return manifest.moment_of(key.rpartition("/")[2].removesuffix(".json"))
    except Unreadable:
        return datetime.min.replace(tzinfo=UTC)
