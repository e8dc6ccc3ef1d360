"""Backups of one moment. The site stands still for a picture, and is copied while it goes on.

What a backup is of: the database as PostgreSQL exported it, Gitea's data as the file system photographed it, both while
Gitea was frozen; and the host's configuration. Each is a restic snapshot in the repository on this host, copied to the
one in the bucket; the manifest, written last, makes a backup of the three.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ops.backup import catalogue, manifest, prune_local
from ops.backup.contents import UNREADABLE, content, refs, secret_key, versions
from ops.backup.freeze import moment_of
from ops.backup.manifest import Manifest, Part, Unreadable
from ops.backup.repositories import DUMP, Repositories, repositories
from ops.backup.upload import upload_backup
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import Degraded, Locked, OpsError, Refused, RolledBack, Unavailable
from ops.model import Report, in_bytes
from ops.step_timer import StepTimer
from ops.wal import base_backups
from ops.world import World
from ops.world import postgres as world_postgres
from ops.world.lock import exclusive
from ops.world.restic import Restic, Stored

# A clock that is behind the newest backup by more is wrong, or was when that was taken.
_CLOCK_BEHIND = timedelta(minutes=1)


def take(site: Site, world: World, *, allow_empty_disk: bool = False, paths: HostPaths | None = None) -> Report:
    """Take a backup of this moment, on this host and then in the bucket; bring there what earlier runs could not.

    What a run that was cut off has left is removed by the next. Once a day the repository on this host is tidied at the end.
    Raises Locked while another operation runs, RolledBack when a part could not be stored on this host: then there is no
    backup, and nothing of it. Raises Unavailable or Degraded when it is on this host and could not be brought to the bucket:
    the next run does that. Raises Refused on a new data disk while there are backups of the site, unless it is to
    ``allow_empty_disk``: the newest backup would be of a site that has lost everything. Exit code 3 when the clock is behind the
    newest backup, or tidying fails.
    """
    paths = paths or HostPaths()
    with exclusive(paths.lock, world.clock.now(), "ops backup take"):
        timer, known = StepTimer(world), _in_bucket(site, world)
        if not allow_empty_disk:
            _require_data(paths, known)
        behind = manifest.behind(world.clock.now(), known.identities)
        try:
            made = _taken(site, world, paths, known, timer)
        except OpsError as failed:
            raise _nothing_kept(failed) from failed
        paths.disk_seen.touch()
        try:
            known.all_of_them()
            made, left = upload_backup(site, world, paths, timer, made)
        except OpsError as failed:
            raise _kept_here(made, failed) from failed
        left = (*left, *_tidied(site, world, paths, made.finished, timer), *_unread(made))
        _renew_base(site, world, paths, made)
    facts: dict[str, Any] = {
        "identity": made.identity,
        "paused": made.paused,
        "stored": made.stored,
        "durations": dict(made.durations),
    }
    summary = f"backup {made.identity}: writes stood still for {made.paused:.2f} s, {in_bytes(made.stored)} added"
    if behind > _CLOCK_BEHIND:
        facts["clock_behind"] = behind.total_seconds()
        wrong = f"this host's clock is {behind} behind the newest backup: one of the two is wrong (timedatectl, chronyc tracking)"
        left = (*left, wrong)
    return Report("backup", True, summary, facts, left, 3 if left else 0)


def _renew_base(site: Site, world: World, paths: HostPaths, made: Manifest) -> None:
    """After the backup, and under its lock: no one else works in the repositories then."""
    both = repositories(site, world, paths)
    try:
        base_backups.refresh(site, world, both.local, both.remote, world.containers.name(paths.project, "postgres"))
    except OpsError as failed:
        raise Degraded(
            f"backup {made.identity} is whole, but there is no new base of the database: {failed.message}", failed.hint
        ) from failed


def _require_data(paths: HostPaths, known: _Known) -> None:
    if not paths.disk_seen.exists() and known.all_of_them():
        raise Refused(
            "this data disk is new, and there are backups of the site: one of a site without its data would be the newest",
            "bring the data back: ops restore; or begin without it: ops backup take --allow-empty-disk",
        )


def _unread(made: Manifest) -> tuple[str, ...]:
    """What a person has to know of a backup that is whole: that the site has repositories that git itself cannot read."""
    return tuple(
        f"the backup has {name} as it is, and git cannot read it: gitea doctor check"
        for name, digest in made.repositories.items()
        if digest == UNREADABLE
    )


@dataclass(frozen=True)
class _Known:
    """The backups in the bucket, by their names, or why no one can tell."""

    identities: frozenset[str]
    away: OpsError | None = None

    def all_of_them(self) -> frozenset[str]:
        """Return their names; raises OpsError when no one can tell."""
        if self.away:
            raise self.away
        return self.identities


def _in_bucket(site: Site, world: World) -> _Known:
    try:
        keys = world.aws.objects(site.backup.bucket, manifest.PREFIX)
    except OpsError as away:
        world.tell(f"the bucket is out of reach, the backup is kept on this host until it is not: {away.message}")
        return _Known(frozenset(), away)
    return _Known(frozenset(key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys))


def _nothing_kept(failed: OpsError) -> OpsError:
    """A failure without a name of its own is one after which all is as before."""
    if failed.exit_code != OpsError.exit_code:
        return failed
    return RolledBack(f"no backup was made, and the site is as it was: {failed.message}", failed.hint)


def _kept_here(made: Manifest, failed: OpsError) -> OpsError:
    kinds: dict[int, type[OpsError]] = {each.exit_code: each for each in (Unavailable, Locked)}
    kind = kinds.get(failed.exit_code, Degraded)
    return kind(
        f"backup {made.identity} is kept on this host, and not in the bucket yet: {failed.message}",
        f"the next run of ops backup take brings it there; {failed.hint}",
    )


def of_this_moment(site: Site, world: World, paths: HostPaths) -> Manifest:
    """Take a backup as ``take`` does, here and in the bucket, for a verb that holds the lock of all operations already."""
    known, timer = _in_bucket(site, world), StepTimer(world)
    known.all_of_them()
    _require_data(paths, known)
    made = _taken(site, world, paths, known, timer)
    paths.disk_seen.touch()
    made, _ = upload_backup(site, world, paths, timer, made)
    return made


def _tidied(site: Site, world: World, paths: HostPaths, now: datetime, timer: StepTimer) -> tuple[str, ...]:
    """Once a day the host's own repository is tidied. The backup is made, whatever comes of that: what went wrong is returned."""
    note = paths.local.with_name("tidied")
    if not prune_local.is_due(note, now):
        return ()
    try:
        verified = {each.identity for each in catalogue.verifications(site, world, until_passed=True) if each.passed}
        with timer.step("tidy"):
            removed = prune_local.prune_local(repositories(site, world, paths).local, site.backup, verified)
    except OpsError as error:
        return (f"the backup is made, but this host's repository was not tidied: {error.message}",)
    prune_local.done(note, now)
    world.tell(f"{removed} snapshots removed from this host's own repository")
    return ()


def _taken(site: Site, world: World, paths: HostPaths, known: _Known, timer: StepTimer) -> Manifest:
    """Take a backup on this host; what could not be finished is taken back."""
    postgres = world.containers.name(paths.project, "postgres")
    with ExitStack() as undo:
        with timer.step("repositories"):
            both = _ready(site, world, paths, known)
            undo.callback(world.btrfs.remove, paths.snapshot)
            undo.enter_context(both.local.remove_additions_on_failure())
        session = undo.enter_context(world.postgres.session(postgres))
        earlier = {*known.identities, *(each.stem for each in paths.pending.glob("*.json"))}
        moment = moment_of(site, world, paths, both, session, timer, earlier)
        tag = manifest.identity_of(moment.when)
        with timer.step("database"):
            said = content(session)
            dump = world_postgres.dump(postgres, moment.export)
            stored = {"database": both.local.store_output(dump, filename=DUMP, host=site.name, tags=[tag, "database"])}
        with timer.step("data"):
            lender = None if moment.data else _of_the_same_data(world, paths, both.local)
            if lender:
                same = lender.parts["data"]
                stored["data"], digests = Stored(same.local, same.size, 0), lender.repositories
            else:
                stored["data"] = moment.data or both.local.store([paths.snapshot], host=site.name, tags=[tag, "data"])
                digests = moment.refs if moment.data else refs(world, paths, paths.snapshot)
        with timer.step("configuration"):
            present = [each for each in paths.configuration if each.exists()]
            note = [prune_local.reuse_tag(stored["data"].snapshot)] if lender else []
            tags = [tag, *note, "configuration"]
            stored["configuration"] = both.local.store(present, host=site.name, tags=tags)
        made = Manifest(
            identity=tag,
            site=site.name,
            domain=site.domain,
            moment=moment.when,
            finished=world.clock.now(),
            parts={name: Part("", each.snapshot, each.size) for name, each in stored.items()},
            stored=sum(each.added for each in stored.values()),
            versions=versions(world, paths),
            migration=said.migration,
            images=world.containers.pinned(paths.project),
            rows=said.rows,
            repositories=digests,
            secret_key=secret_key(paths),
            paused=round(moment.paused, 4),
            photographed=moment.data is None,
            durations=timer.seconds,
            system=moment.system,
            position=moment.position,
        )
        if made.photographed:
            _keep_the_picture(world, paths, made)
        paths.pending.mkdir(mode=0o700, exist_ok=True)
        world.files.write(paths.pending / f"{tag}.json", manifest.to_json(made))
    return made


def _of_the_same_data(world: World, paths: HostPaths, local: Restic) -> Manifest | None:
    """The newest backup on this host, if nothing in Gitea's data has changed since its moment: then it has nothing to be stored."""
    newest = _newest(paths)
    if newest is None:
        return None
    earlier = paths.snapshot_of(newest.identity)
    if not (earlier.is_dir() and local.holds(newest.parts["data"].local)):
        return None
    try:
        return None if world.btrfs.differs(paths.snapshot, earlier) else newest
    except OpsError as unknown:
        world.tell(
            f"what has changed since backup {newest.identity} cannot be told, so all is looked at: {unknown.message}"
        )
        return None


def _newest(paths: HostPaths) -> Manifest | None:
    """The newest backup that was made on this host, where that is known."""
    try:
        return manifest.from_json(paths.newest.read_bytes())
    except (FileNotFoundError, Unreadable):
        return None


def snapshot_of(world: World, paths: HostPaths, made: Manifest) -> Path | None:
    """Return the picture that a backup's data was stored from, which is kept of the newest data.

    None where it is not on the data disk, or where that disk has returned anything else than was written.
    """
    newest = _newest(paths)
    if newest is None or newest.parts["data"].local != made.parts["data"].local:
        return None
    picture = paths.snapshot_of(newest.identity)
    return picture if world.btrfs.can_snapshot(picture) and not world.btrfs.errors(picture) else None


def _keep_the_picture(world: World, paths: HostPaths, made: Manifest) -> None:
    """Keep what the next backup's picture is compared with, and no other. Cut off here, that one stores what there is, as the first."""
    world.files.write(paths.newest, manifest.to_json(made))
    for each in paths.snapshot.parent.iterdir():
        if each != paths.snapshot:
            world.btrfs.remove(each)
    world.btrfs.rename(paths.snapshot, paths.snapshot_of(made.identity))


def _ready(site: Site, world: World, paths: HostPaths, known: _Known) -> Repositories:
    """Both repositories, the local one made where it is not there, and nothing left of a run that was cut off."""
    both = repositories(site, world, paths)
    # No one else works in the local one: the lock of all operations is ours. One that is made anew is made like the other, so
    # that a copy shares what both have.
    if not both.local.unlock(every=True):
        known.all_of_them()
        both.local.make(both.remote if both.remote.exists() else None)
    world.btrfs.remove(paths.snapshot)
    return both
