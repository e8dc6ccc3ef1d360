"""What the bucket tells of backups without opening one: their names, and the records of what was proven of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from ops.backup import manifest, records
from ops.backup.manifest import Backup, Manifest, Unreadable
from ops.backup.records import Drill, Verification
from ops.backup.repositories import Repositories
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.world import World
from ops.world.restic import Restic

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
    return manifest.from_json(world.aws.read_object(site.backup.bucket, key))


def drills(site: Site, world: World) -> tuple[Drill, ...]:
    """Return the newest drills, oldest first. One whose record cannot be read is one that failed."""
    return _records(
        site, world, records.DRILLS, records.drill_from_json, lambda when, why: Drill(when, "", 0.0, 0.0, (why,))
    )


def verifications(site: Site, world: World, *, until_passed: bool = False) -> tuple[Verification, ...]:
    """Return the newest verifications, oldest first. One whose record cannot be read is one that failed.

    ``until_passed`` goes back as far as to one that was passed, should all of those have failed.
    """
    failed: Callable[[datetime, str], Verification] = lambda when, why: Verification(when, "", 0, (why,))  # noqa: E731
    return _records(
        site, world, records.VERIFICATIONS, records.verification_from_json, failed, until_passed=until_passed
    )


def drill_overdue(site: Site, world: World) -> str:
    """Return why no change of the site should rely on its backups for want of a passed drill, or "" (proofs.judge_drills)."""
    list_backups = moments(site, world)
    since = list_backups[0] if list_backups else None
    return records.check_drills(drills(site, world), site.backup.drill_days, since, world.clock.now())


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


def choose(backups: Iterable[Backup], identity: str = "", at: datetime | None = None) -> Manifest:
    """Return the backup named ``identity``, else the newest at or before ``at``, else the newest.

    Raises Refused when no such backup exists or it is broken.
    """
    list_backups = {each.identity: each for each in backups}
    whole = sorted((each.manifest for each in list_backups.values() if each.manifest), key=lambda each: each.moment)
    if identity:
        named = list_backups.get(identity)
        if named is None:
            near = ", ".join(each.identity for each in whole[-3:]) or "there is none"
            raise Refused(f"there is no backup {identity}", f"the newest: {near}; all of them: ops backup list")
        if named.manifest is None:
            raise Refused(f"backup {identity} is broken: {named.broken}", "choose another: ops backup list")
        return named.manifest
    early = [each for each in whole if at is None or each.moment <= at]
    if not early:
        when = f" from {at:%Y-%m-%d %H:%M:%S} or before" if at else ""
        raise Refused(f"there is no whole backup{when}", "ops backup list; is backup.bucket the right one?")
    return early[-1]


def passed_over(
    backups: Iterable[Backup], chosen: Manifest, identity: str = "", at: datetime | None = None
) -> tuple[str, ...]:
    """Return a line for each backup that would have been chosen, were it whole."""
    if identity:
        return ()
    last = manifest.identity_of(at) if at else "~"
    return tuple(
        f"passed over: backup {each.identity} is newer, and broken: {each.broken}"
        for each in backups
        if each.manifest is None and chosen.identity < each.identity <= last
    )


def list_backups(
    site: Site, world: World, both: Repositories, needed: Collection[str] = manifest.PARTS
) -> tuple[Backup, ...]:
    """Return the backups that the bucket tells of, each whole in its ``needed`` parts or broken."""
    return list_backups_in(site, world, both.remote, needed)


def list_backups_in(
    site: Site, world: World, remote: Restic, needed: Collection[str] = manifest.PARTS
) -> tuple[Backup, ...]:
    """Return the backups that the bucket tells of, by whichever door its repository is reached."""
    there = {each.identity for each in remote.snapshots_or_none() or ()}
    keys = world.aws.objects(site.backup.bucket, manifest.PREFIX)
    names = {key: key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys}
    return tuple(
        manifest.check_backup(name, world.aws.read_object(site.backup.bucket, key), there, needed)
        for key, name in names.items()
    )
