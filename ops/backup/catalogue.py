"""List the backups in the bucket by their names and manifests, with the records of their verifications and drills."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from ops.backup import manifest, records
from ops.backup.manifest import Backup, Manifest, Unreadable
from ops.backup.records import Drill, Verification
from ops.backup.repositories import Repositories
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.model import CLOCK_DRIFT
from ops.world import World
from ops.world.restic import Restic

_Record = TypeVar("_Record", Drill, Verification)
# More records than there are between two that matter.
_NEWEST = 20


def moments(site: Site, world: World) -> tuple[datetime, ...]:
    """Return the moments of all backups by the names of their manifests, oldest first. A backup among them may be broken."""
    found = []
    for identity in identities(site, world):
        try:
            found.append(manifest.moment_of(identity))
        except Unreadable:
            world.tell(f"{manifest.key_of(identity)} in the bucket is not a backup's manifest")
    return tuple(sorted(found))


def identities(site: Site, world: World) -> tuple[str, ...]:
    """Return the names of all manifests, sorted."""
    keys = world.aws.objects(site.backup.bucket, manifest.PREFIX)
    return tuple(sorted(key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys))


def newest(site: Site, world: World) -> Manifest | None:
    """Return the newest manifest, None without backups; raises Unreadable when it is truncated."""
    found = moments(site, world)
    if not found:
        return None
    key = manifest.key_of(manifest.identity_of(found[-1]))
    return manifest.from_json(world.aws.read_object(site.backup.bucket, key))


def drills(site: Site, world: World) -> tuple[Drill, ...]:
    """Return the newest drills, oldest first. An unreadable record counts as a failed drill."""
    return _records(
        site, world, records.DRILLS, records.drill_from_json, lambda when, why: Drill(when, "", 0.0, 0.0, (why,))
    )


def verifications(site: Site, world: World, *, until_passed: bool = False) -> tuple[Verification, ...]:
    """Return the newest verifications, oldest first. An unreadable record counts as a failed verification.

    If all of them failed, ``until_passed`` goes back to the last one that passed.
    """
    failed: Callable[[datetime, str], Verification] = lambda when, why: Verification(when, "", 0, (why,))  # noqa: E731
    return _records(
        site, world, records.VERIFICATIONS, records.verification_from_json, failed, until_passed=until_passed
    )


def last_prune(site: Site, world: World) -> datetime | None:
    """Return when the last completed prune began, None without a record of one. A record from the future is ignored."""
    latest = world.clock.now() + CLOCK_DRIFT
    began = map(_moment_in, world.aws.objects(site.backup.bucket, records.PRUNES))
    return max((each for each in began if each <= latest), default=None)


def drill_overdue(site: Site, world: World) -> str:
    """Return why changes of the site must not rely on its backups before a drill passes, or "" (records.check_drills)."""
    since = next(iter(moments(site, world)), None)
    return records.check_drills(drills(site, world), site.backup.drill_days, since, world.clock.now())


def drill_remedy(site: Site, world: World) -> str:
    """Return the command for a drill that failed or is overdue (records.drill_remedy)."""
    return records.drill_remedy(drills(site, world), world.clock.now())


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
            found.append(failed(_moment_in(key), error.message))
    return tuple(reversed(found))


def _moment_in(key: str) -> datetime:
    try:
        return manifest.moment_of(key.rpartition("/")[2].removesuffix(".json"))
    except Unreadable:
        return datetime.min.replace(tzinfo=UTC)


def choose(backups: Iterable[Backup], identity: str = "", at: datetime | None = None) -> Manifest:
    """Return the backup named ``identity``, else the newest at or before ``at``, else the newest.

    Raises Refused when no such backup exists or it is broken.
    """
    available = {each.identity: each for each in backups}
    if identity:
        return _named(available, identity)
    early = [each for each in whole_backups(available.values()) if at is None or each.moment <= at]
    if not early:
        when = f" at or before {at:%Y-%m-%d %H:%M:%S}" if at else ""
        raise Refused(
            f"there is no whole backup{when}", "run ops backup list, and check backup.bucket in the site file"
        )
    return early[-1]


def whole_backups(backups: Iterable[Backup]) -> tuple[Manifest, ...]:
    """Return the manifests of the whole backups, oldest first."""
    return tuple(sorted((each.manifest for each in backups if each.manifest), key=lambda each: each.moment))


def before(backups: Iterable[Backup], chosen: Manifest) -> Manifest | None:
    """Return the manifest of the newest whole backup before the chosen one, None without one."""
    earlier = [each for each in whole_backups(backups) if each.moment < chosen.moment]
    return earlier[-1] if earlier else None


def _named(backups: Mapping[str, Backup], identity: str) -> Manifest:
    named = backups.get(identity)
    if named is None:
        newest = ", ".join(each.identity for each in whole_backups(backups.values())[-3:]) or "none"
        raise Refused(f"there is no backup {identity}", f"run ops backup list and choose another (newest: {newest})")
    if named.manifest is None:
        raise Refused(f"backup {identity} is broken: {named.broken}", "run ops backup list and choose another backup")
    return named.manifest


def passed_over(
    backups: Iterable[Backup], chosen: Manifest, identity: str = "", at: datetime | None = None
) -> tuple[str, ...]:
    """Return a line for each broken backup that was skipped in favour of an older whole one."""
    if identity:
        return ()
    last = manifest.identity_of(at) if at else "~"
    return tuple(
        f"skipped: backup {each.identity} is newer, but broken: {each.broken}"
        for each in backups
        if each.manifest is None and chosen.identity < each.identity <= last
    )


def list_backups(
    site: Site, world: World, both: Repositories, needed: Collection[str] = manifest.PARTS
) -> tuple[Backup, ...]:
    """Return the backups in the bucket; one without all its ``needed`` parts is broken."""
    return list_backups_in(site, world, both.remote, needed)


def list_backups_in(
    site: Site, world: World, remote: Restic, needed: Collection[str] = manifest.PARTS
) -> tuple[Backup, ...]:
    """Return the backups in the bucket like ``list_backups``, with any adapter for its repository."""
    stored = {each.identity for each in remote.snapshots_or_none() or ()}
    keys = world.aws.objects(site.backup.bucket, manifest.PREFIX)
    contents = world.aws.read_objects(site.backup.bucket, keys)
    return tuple(
        manifest.check_backup(key.removeprefix(manifest.PREFIX).removesuffix(".json"), content, stored, needed)
        for key, content in zip(keys, contents, strict=True)
    )
