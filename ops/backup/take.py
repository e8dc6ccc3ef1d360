"""Take a backup of one moment. Gitea is frozen only for the snapshots; they are copied while it runs on.

The parts of a backup are the database as PostgreSQL exported it, Gitea's data as a btrfs snapshot, both taken while Gitea was
frozen, and the host's configuration. Each is a restic snapshot in the repository on this host, copied to the repository in the
bucket. The manifest is written last and makes the three a backup.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ops.backup import caches, catalogue, coverage, manifest, prune_local, witness
from ops.backup.contents import UNREADABLE, content, gitea_service, refs, secret_key, versions
from ops.backup.freeze import Moment, moment_of
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
from ops.world.containers import RUNNING
from ops.world.lock import exclusive
from ops.world.restic import Restic, Stored

# A clock further behind the newest backup is wrong, or was wrong when that backup was taken.
_CLOCK_BEHIND = timedelta(minutes=1)


def take(site: Site, world: World, *, allow_empty_disk: bool = False, paths: HostPaths | None = None) -> Report:
    """Take a backup of this moment, on this host and then in the bucket, and upload earlier backups that are only on this host.

    Each run removes the leftovers of an interrupted one. Once a day it prunes the repository on this host at the end. Raises
    Locked while another operation runs, RolledBack when a part could not be stored on this host: then no part of a backup is
    left. Raises Unavailable or Degraded when the backup is on this host and could not be uploaded: the next run uploads it.
    Raises Refused on a new data disk while the site has backups, unless ``allow_empty_disk``: the newest backup would be of a
    site without its data; and when a snapshot would miss a subvolume or a mount in Gitea's data. Exit code 3 when the clock is
    behind the newest backup, the local prune fails, or the backup lacks something that the site has.
    """
    paths = paths or HostPaths()
    with exclusive(paths.lock, world.clock.now(), "ops backup take"):
        timer, existing = StepTimer(world), _in_bucket(site, world)
        if not allow_empty_disk:
            _require_data(paths, existing)
        behind = manifest.behind(world.clock.now(), existing.identities)
        try:
            made, state, notes = _taken(site, world, paths, existing, timer)
        except OpsError as failed:
            raise _rolled_back(failed) from failed
        paths.disk_seen.touch()
        try:
            existing.require()
            made, lines = upload_backup(site, world, paths, timer, made)
        except OpsError as failed:
            raise _only_local(made, failed) from failed
        lines = (*lines, *_prune_daily(site, world, paths, made.finished, timer), *notes)
        _refresh_base_backup(site, world, paths, made)
    facts: dict[str, Any] = {
        "identity": made.identity,
        "paused": made.paused,
        "stored": made.stored,
        "durations": dict(made.durations),
    }
    frozen = f"writes were paused for {made.paused:.2f} s"
    if state != RUNNING:
        facts["gitea"] = state
        frozen = f"Gitea is {state} and was left so, nothing was frozen"
    summary = f"backup {made.identity}: {frozen}, {in_bytes(made.stored)} added"
    if behind > _CLOCK_BEHIND:
        facts["clock_behind"] = behind.total_seconds()
        wrong = f"this host's clock is {behind} behind the newest backup: one of the two is wrong (timedatectl, chronyc tracking)"
        lines = (*lines, wrong)
    return Report("backup", True, summary, facts, lines, 3 if lines else 0)


def _refresh_base_backup(site: Site, world: World, paths: HostPaths, made: Manifest) -> None:
    """Take a base backup if one is due. The backup's lock is still held, so no other run uses the repositories."""
    both = repositories(site, world, paths)
    try:
        base_backups.refresh(site, world, both.local, both.remote, world.containers.name(paths.project, "postgres"))
    except OpsError as failed:
        raise Degraded(
            f"the base backup of the database failed: {failed.message}",
            failed.hint,
            left_as=f"backup {made.identity} is whole",
        ) from failed


def _require_data(paths: HostPaths, existing: _Existing) -> None:
    if not paths.disk_seen.exists() and existing.require():
        raise Refused(
            "this data disk is new, but the site has backups: the newest one would be of a site without its data",
            "restore the data with ops restore, or run ops backup take --allow-empty-disk to start without it",
            left_as="no backup was made",
        )


def _unreadable(made: Manifest) -> tuple[str, ...]:
    """Return a line for each repository in the backup that git cannot read on the site either."""
    return tuple(
        f"git cannot read repository {name}, the backup has it as it is: run gitea doctor check"
        for name, digest in made.repositories.items()
        if digest == UNREADABLE
    )


@dataclass(frozen=True)
class _Existing:
    """The names of the backups in the bucket, or the ``error`` of listing them."""

    identities: frozenset[str]
    error: OpsError | None = None

    def require(self) -> frozenset[str]:
        """Return the names; raises the error if they could not be listed."""
        if self.error:
            raise self.error
        return self.identities


def _in_bucket(site: Site, world: World) -> _Existing:
    try:
        keys = world.aws.objects(site.backup.bucket, manifest.PREFIX)
    except OpsError as error:
        world.tell(f"the bucket is unreachable, the backup is kept on this host until it is back: {error.message}")
        return _Existing(frozenset(), error)
    return _Existing(frozenset(key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys))


def _rolled_back(failed: OpsError) -> OpsError:
    """Return an error with a specific exit code as it is. Any other left nothing changed, so it becomes RolledBack."""
    if failed.exit_code != OpsError.exit_code:
        return failed
    left_as = failed.left_as or "the site is as it was before"
    return RolledBack(f"no backup was made: {failed.message}", failed.hint, left_as=left_as)


def _only_local(made: Manifest, failed: OpsError) -> OpsError:
    kinds: dict[int, type[OpsError]] = {each.exit_code: each for each in (Unavailable, Locked)}
    kind = kinds.get(failed.exit_code, Degraded)
    return kind(
        f"backup {made.identity} is kept on this host, and not in the bucket yet: {failed.message}",
        "; ".join(filter(None, ("run ops backup take again to upload it", failed.hint))),
        left_as="the site runs, and the backup is complete on this host",
    )


def of_this_moment(site: Site, world: World, paths: HostPaths) -> Manifest:
    """Take a backup as ``take`` does, here and in the bucket, for a verb that already holds the lock of all operations."""
    existing, timer = _in_bucket(site, world), StepTimer(world)
    existing.require()
    _require_data(paths, existing)
    made, _, _ = _taken(site, world, paths, existing, timer)
    paths.disk_seen.touch()
    made, _ = upload_backup(site, world, paths, timer, made)
    return made


def _prune_daily(site: Site, world: World, paths: HostPaths, now: datetime, timer: StepTimer) -> tuple[str, ...]:
    """Prune the host's own repository once a day. A failure does not affect the backup and is returned as a line."""
    note = paths.local.with_name("tidied")
    if not prune_local.is_due(note, now):
        return ()
    try:
        verified = {each.identity for each in catalogue.verifications(site, world, until_passed=True) if each.passed}
        with timer.step("prune"):
            removed = prune_local.prune_local(repositories(site, world, paths).local, site.backup, verified)
    except OpsError as error:
        return (f"the backup is whole, but this host's repository was not pruned: {error.message}",)
    prune_local.done(note, now)
    world.tell(f"{removed} snapshots removed from this host's own repository")
    return ()


def _taken(
    site: Site, world: World, paths: HostPaths, existing: _Existing, timer: StepTimer
) -> tuple[Manifest, str, tuple[str, ...]]:
    """Take a backup on this host; a failure removes its parts. Returns it with Gitea's state and a line for each doubt."""
    coverage.require_complete(world, paths)
    postgres = world.containers.name(paths.project, "postgres")
    with ExitStack() as undo:
        with timer.step("repositories"):
            both = _ready(site, world, paths, existing)
            undo.callback(world.btrfs.remove, paths.snapshot)
            undo.enter_context(both.local.remove_additions_on_failure())
        session = undo.enter_context(world.postgres.session(postgres))
        earlier = {*existing.identities, *(each.stem for each in paths.pending.glob("*.json"))}
        moment = moment_of(site, world, paths, both, session, timer, earlier)
        tag = manifest.identity_of(moment.when)
        with timer.step("database"):
            counts, expected = content(session), witness.expected(session)
            dump = world_postgres.dump(postgres, moment.export)
            stored = {"database": both.local.store_output(dump, filename=DUMP, host=site.name, tags=[tag, "database"])}
        with timer.step("data"):
            reused = None if moment.data else _reusable(world, paths, both.local)
            copied = _data(site, world, paths, both, moment, reused)
            stored["data"], digests = copied.stored, copied.repositories
        with timer.step("configuration"):
            present = [each for each in paths.configuration if each.exists()]
            note = [prune_local.reuse_tag(stored["data"].snapshot)] if reused else []
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
            versions=versions(world, paths, gitea_service(world, paths)),
            migration=counts.migration,
            images=world.containers.pinned(paths.project),
            rows=counts.rows,
            repositories=digests,
            secret_key=secret_key(paths),
            paused=round(moment.paused, 4),
            photographed=moment.data is None,
            durations=timer.seconds,
            system=moment.system,
            position=moment.position,
            missing=witness.missing(digests, expected, copied.folders),
            links=copied.links,
        )
        notes = _doubts(paths, made, copied.folders)
        if made.photographed:
            _keep_snapshot(world, paths, made)
        paths.pending.mkdir(mode=0o700, exist_ok=True)
        world.files.write(paths.pending / f"{tag}.json", manifest.to_json(made))
    return made, moment.gitea.state, notes


@dataclass(frozen=True)
class _Data:
    """The stored data of a backup: the digests and the folders of its repositories, and the links that leave it."""

    stored: Stored
    repositories: Mapping[str, str]
    folders: tuple[witness.Folder, ...]
    links: tuple[str, ...]


def _data(
    site: Site, world: World, paths: HostPaths, both: Repositories, moment: Moment, reused: Manifest | None
) -> _Data:
    """Return the data of a backup: reused, already stored, or stored now."""
    if moment.data:
        return _Data(moment.data, moment.refs, moment.folders, coverage.links_leaving(paths.live))
    found = witness.folders(paths.snapshot)
    if reused:
        part = reused.parts["data"]
        return _Data(Stored(part.local, part.size, 0), reused.repositories, found, tuple(reused.links))
    tags, exclude = [manifest.identity_of(moment.when), "data"], caches.patterns(paths.snapshot)
    stored = both.local.store([paths.snapshot], host=site.name, tags=tags, exclude=exclude)
    links = coverage.links_leaving(paths.snapshot)
    return _Data(stored, refs(world, paths, paths.snapshot), found, links)


def _doubts(paths: HostPaths, made: Manifest, folders: tuple[witness.Folder, ...]) -> tuple[str, ...]:
    """Return a line for each part that a backup lacks or that Gitea cannot use."""
    links = (
        f"the target of {each} is not in the backup: move it into {paths.live}, or remove the link"
        for each in made.links
    )
    return (
        *_unreadable(made),
        *witness.check_manifest(made, _newest(paths)),
        *links,
        *witness.owner_lines(folders, paths.live),
    )


def _reusable(world: World, paths: HostPaths, local: Restic) -> Manifest | None:
    """Return the newest backup on this host if Gitea's data has not changed since its moment: then its data is reused."""
    newest = _newest(paths)
    if newest is None:
        return None
    earlier = paths.snapshot_of(newest.identity)
    if not (earlier.is_dir() and local.holds(newest.parts["data"].local)):
        return None
    try:
        return None if world.btrfs.differs(paths.snapshot, earlier, tuple(caches.CACHES)) else newest
    except OpsError as error:
        world.tell(f"changes since backup {newest.identity} cannot be determined, storing all data: {error.message}")
        return None


def _newest(paths: HostPaths) -> Manifest | None:
    """Return the newest backup that was made on this host, None if its manifest is missing or unreadable."""
    try:
        return manifest.from_json(paths.newest.read_bytes())
    except (FileNotFoundError, Unreadable):
        return None


def snapshot_of(world: World, paths: HostPaths, made: Manifest) -> Path | None:
    """Return the btrfs snapshot that a backup's data was stored from. The data disk keeps the snapshot of the newest data.

    None without such a snapshot, or when the data disk has returned other bytes than were written.
    """
    newest = _newest(paths)
    if newest is None or newest.parts["data"].local != made.parts["data"].local:
        return None
    snapshot = paths.snapshot_of(newest.identity)
    return snapshot if world.btrfs.can_snapshot(snapshot) and not world.btrfs.errors(snapshot) else None


def _keep_snapshot(world: World, paths: HostPaths, made: Manifest) -> None:
    """Keep only this btrfs snapshot, to compare with the next. After an interruption here, the next backup stores all data."""
    world.files.write(paths.newest, manifest.to_json(made))
    for each in paths.snapshot.parent.iterdir():
        if each != paths.snapshot:
            world.btrfs.remove(each)
    world.btrfs.rename(paths.snapshot, paths.snapshot_of(made.identity))


def _ready(site: Site, world: World, paths: HostPaths, existing: _Existing) -> Repositories:
    """Return both repositories, after creating a missing local one and removing the leftovers of an interrupted run."""
    both = repositories(site, world, paths)
    # All locks in the local one are stale: this run holds the lock of all operations. A new one gets the remote one's chunker
    # parameters, so that copies are deduplicated.
    if not both.local.remove_all_locks():
        existing.require()
        both.local.make(both.remote if both.remote.exists() else None)
    world.btrfs.remove(paths.snapshot)
    return both
