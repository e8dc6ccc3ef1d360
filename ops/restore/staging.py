"""Fetch a backup beside the running site and compare it with its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ops.backup import caches, contents
from ops.backup.manifest import Manifest
from ops.backup.repositories import DUMP, Repositories
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.images.pins import pin_from
from ops.restore import rights
from ops.restore.plan import RestoreRequest, check_free_space, plan_wal, require_reader, wal_lines
from ops.step_timer import StepTimer
from ops.wal import base_backups, recovery, segments
from ops.wal.plan import ReplayPlan
from ops.world import World
from ops.world import postgres as world_postgres
from ops.world.restic import Full, Restic, folder_of

# Gitea builds these again at its start if they do not exist. A search index of another moment than the database stays wrong,
# and a damaged one ends the start.
_REBUILT = ("gitea/indexers",)
# The database that was fetched, and the one that it replaced.
STAGED, ASIDE = "gitea_restored", "gitea_before"


@dataclass(frozen=True)
class Staging:
    """The paths of a restore on the data disk: the fetched data, the replaced data, and the journal of the switch."""

    folder: Path

    @property
    def data(self) -> Path:
        """The fetched data, before the switch."""
        return self.folder / "gitea"

    @property
    def aside(self) -> Path:
        """The replaced data."""
        return self.folder / "before"

    @property
    def repository(self) -> Path:
        """The repository that the restore of one repository replaced."""
        return self.folder / "repository"

    @property
    def journal(self) -> Path:
        """The journal; it has a record of the backup, and of the repository if it is only one, while a switch is in progress."""
        return self.folder / "journal"


@dataclass(frozen=True)
class Origin:
    """The sources of a restore: the repositories; the snapshot of the data; the WAL, if the database is not from the dump.

    ``left_out`` collects the statements of the dump that were not restored.
    """

    both: Repositories
    wal: WalSource | None
    snapshot: Path | None
    left_out: list[str] = field(default_factory=list)


class _SnapshotUnusable(OpsError):
    """The snapshot of the data cannot be used; the staged data was removed again."""


def stage_backup(
    site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin, timer: StepTimer
) -> tuple[str, Origin]:
    """Stage a backup beside the site and compare it with its manifest; fetch the data if its snapshot cannot be used.

    Returns the time of the database's last transaction if it is recovered from WAL (else ""), and the sources used.
    """
    try:
        return _fetch_and_compare(site, world, paths, chosen, origin, timer), origin
    except _SnapshotUnusable as unusable:
        world.tell(f"the snapshot on the data disk cannot be used, fetching everything: {unusable.message}")
        base = origin.wal.plan.base.size if origin.wal else 0
        if shortage := check_free_space(chosen, world.btrfs.free(paths.data), base, has_snapshot=False):
            raise Refused(
                f"{unusable.message}; and {shortage}",
                "free space on the data disk, or enlarge host.data_gib and run ops deploy",
                left_as="the site was not changed",
            ) from unusable
    fetching = replace(origin, snapshot=None)
    return _fetch_and_compare(site, world, paths, chosen, fetching, timer), fetching


def _fetch_and_compare(
    site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin, timer: StepTimer
) -> str:
    """Stage a backup and compare it with its manifest; remove it again if it differs.

    Returns the time of the database's last transaction if it is recovered from WAL. Raises _SnapshotUnusable if the
    difference is the snapshot's.
    """
    with ExitStack() as undo:
        undo.callback(clear, world, paths)
        with timer.step("fetch"):
            until = _stage(site, world, paths, chosen, origin)
        with timer.step("compare"):
            refs = (
                _snapshot_refs(world, paths, chosen, origin.snapshot) if origin.snapshot else staged_refs(world, paths)
            )
            # The manifest does not have the number of rows of a newer database.
            rows = dict(chosen.rows) if origin.wal and origin.wal.newest else staged_rows(world, paths)
            if differing := compare(chosen, rows, refs):
                raise Refused(
                    f"the fetched data differs from the manifest of backup {chosen.identity}: {'; '.join(differing[:5])}",
                    "choose another backup: ops backup list",
                    left_as="the site was not changed",
                )
        for name in _REBUILT:
            world.btrfs.remove(staging_of(paths).data / name)
        undo.pop_all()
    return until


@dataclass(frozen=True)
class WalSource:
    """The recovery of the database from WAL: the plan, whether it goes to the end of the WAL, and where it runs."""

    plan: ReplayPlan
    newest: bool
    target: recovery.ReplayTarget


def wal_source(
    site: Site, world: World, paths: HostPaths, chosen: Manifest, request: RestoreRequest
) -> WalSource | None:
    """Return how to recover the requested database from WAL; None if the request is for the dump.

    Raises Refused if base backup and WAL do not reach it.
    """
    if not (request.from_wal or request.newest_database) or request.repository:
        return None
    if not chosen.system:
        raise Refused(
            f"backup {chosen.identity} is from before WAL was archived",
            "restore its dump: run ops restore without --from-wal and --newest-database",
            left_as="nothing was changed",
        )
    waiting = segments.Waiting(paths.wal / chosen.system)
    shipped = frozenset(base_backups.shipped(site, world, chosen.system))
    left = recovery.unshipped_names(waiting) - shipped
    planned = plan_wal(
        chosen,
        base_backups.list_base_backups(site, world, skip_unreadable=True),
        shipped | left,
        newest=request.newest_database,
    )
    (image,) = [each.image for each in world.containers.services(paths.project) if each.name == "postgres"]
    require_reader(planned, pin_from(image).tag)
    target = recovery.ReplayTarget(
        *_scratch(paths), image=image, key=base_backups.encryption_key(paths.secrets), waiting=waiting, unshipped=left
    )
    return WalSource(planned, request.newest_database, target)


def _scratch(paths: HostPaths) -> tuple[Path, str]:
    """Return the folder and the container's name for a recovery from WAL."""
    return paths.data / ".replay", f"{paths.project}-replay"


def wal_plan_lines(chosen: Manifest, wal: WalSource | None) -> tuple[str, ...]:
    """Return the plan's lines about the WAL, none if the dump is restored."""
    return wal_lines(chosen, wal.plan, newest=wal.newest) if wal else ()


def _load_from_wal(site: Site, world: World, paths: HostPaths, origin: Origin, wal: WalSource) -> str:
    """Fill the staged database from base backup and WAL, and return the time of its last transaction."""
    both = origin.both
    local = wal.plan.base.local in {each.identity for each in both.local.snapshots_or_none() or ()}
    source = both.local if local else both.remote
    with recovery.recovered_database(site, world, wal.plan, source, wal.target) as container:
        until = recovery.last_transaction(world, container)
        postgres = world.containers.name(paths.project, "postgres")
        dump, load = world_postgres.dump(container), world_postgres.load(postgres, STAGED, rights=False)
        on_line = rights.separate(world.tell, origin.left_out)
        done = world.processes.pipe(dump, load, environment={}, tell=on_line)
        if done.code:
            raise OpsError(
                f"the recovered database cannot be copied to the site's server: {done.output.strip()[-600:]}"
            )
    return until


def _stage(site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin) -> str:
    """Fetch data and database beside those in use, from the bucket if this host's copy is damaged.

    Returns the time of the database's last transaction if it is recovered from WAL.
    """
    *first, last = sources_of(chosen, origin.both)
    for source, snapshots in first:
        clear(world, paths)
        try:
            _fetch(world, paths, source, snapshots, origin.snapshot)
            return _load(site, world, paths, origin, source, snapshots)
        except OpsError as failed:
            if not is_damage(failed):
                raise
            what = "the database" if origin.snapshot else "everything"
            world.tell(f"this host's copy is damaged, fetching {what} from the bucket: {failed.message}")
    clear(world, paths)
    _fetch(world, paths, *last, origin.snapshot)
    try:
        return _load(site, world, paths, origin, *last)
    except OpsError as failed:
        if origin.wal or not is_damage(failed):
            raise
        return _load_from_wal_instead(site, world, paths, chosen, origin, failed)


def is_damage(failed: OpsError) -> bool:
    """Tell whether another source may help: not for an error with an exit code of its own, a full disk or a bad snapshot."""
    return failed.exit_code == OpsError.exit_code and not isinstance(failed, Full | _SnapshotUnusable)


def _fetch(world: World, paths: HostPaths, source: Restic, snapshots: Mapping[str, str], snapshot: Path | None) -> None:
    staging = staging_of(paths)
    if snapshot:
        try:
            world.btrfs.clone(snapshot, staging.data)
        except OpsError as failed:
            raise _SnapshotUnusable(failed.message) from failed
    else:
        if world.btrfs.can_snapshot(paths.live):
            world.btrfs.make(staging.data)
        source.restore(snapshots["data"], staging.data, include=folder_of(source, snapshots["data"]))
        world.btrfs.own_like(paths.live, staging.data)
    caches.clear(staging.data)
    with world.postgres.session(world.containers.name(paths.project, "postgres"), "postgres") as session:
        session.ask(f"CREATE DATABASE {STAGED} TEMPLATE template0")


def _load(
    site: Site, world: World, paths: HostPaths, origin: Origin, source: Restic, snapshots: Mapping[str, str]
) -> str:
    """Fill the staged database from the dump or from WAL; return the time of the last transaction of the latter."""
    if origin.wal:
        return _load_from_wal(site, world, paths, origin, origin.wal)
    postgres = world.containers.name(paths.project, "postgres")
    load = world_postgres.load(postgres, STAGED, rights=False)
    source.dump_into(snapshots["database"], DUMP, load, rights.separate(world.tell, origin.left_out))
    return ""


def _load_from_wal_instead(
    site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin, failed: OpsError
) -> str:
    """Recover the database of the dump's moment from WAL instead; return the time of its last transaction."""
    world.tell(f"the dump cannot be used, recovering its moment from base backup and WAL: {failed.message}")
    try:
        recovered = wal_source(site, world, paths, chosen, RestoreRequest(from_wal=True))
    except OpsError as again:
        raise OpsError(
            f"{failed.message}\nand from WAL: {again.message}", failed.hint, left_as=failed.left_as
        ) from failed
    assert recovered
    return _load_from_wal(site, world, paths, origin, recovered)


def sources_of(chosen: Manifest, both: Repositories) -> list[tuple[Restic, dict[str, str]]]:
    """Return the repositories to fetch a backup from, with its snapshots: this host's if it is complete, then the bucket's."""
    remote = {name: part.remote for name, part in chosen.parts.items()}
    local = {name: part.local for name, part in chosen.parts.items()}
    is_local = set(local.values()) <= {each.identity for each in both.local.snapshots_or_none() or ()}
    return [*([(both.local, local)] if is_local else []), (both.remote, remote)]


def clear(world: World, paths: HostPaths) -> None:
    """Remove the staged data and what the previous restore kept aside."""
    clear_fetched(world, paths)
    world.btrfs.remove(staging_of(paths).aside)
    world.btrfs.remove(staging_of(paths).repository)
    _drop_database(world, paths, ASIDE)


def clear_fetched(world: World, paths: HostPaths) -> None:
    """Remove the staged data and the staged database."""
    staging = staging_of(paths)
    world.btrfs.remove(staging.data)
    recovery.clear(world, *_scratch(paths))
    staging.folder.mkdir(mode=0o700, exist_ok=True)
    _drop_database(world, paths, STAGED)


def _drop_database(world: World, paths: HostPaths, name: str) -> None:
    with world.postgres.session(world.containers.name(paths.project, "postgres"), "postgres") as session:
        # FORCE: a load that a killed run started in the database's container may still run.
        session.ask(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def staged_rows(world: World, paths: HostPaths) -> dict[str, int]:
    """Return the number of rows in each main table of the staged database."""
    with world.postgres.session(world.containers.name(paths.project, "postgres"), STAGED) as session:
        return dict(contents.content(session).rows)


def staged_refs(world: World, paths: HostPaths) -> dict[str, str]:
    """Return a digest of the refs of each staged repository."""
    return contents.refs(world, paths, staging_of(paths).data)


def _snapshot_refs(world: World, paths: HostPaths, chosen: Manifest, snapshot: Path) -> dict[str, str]:
    """Return the refs in the snapshot's clone; raises _SnapshotUnusable if they cannot be read or differ from the manifest."""
    try:
        refs = staged_refs(world, paths)
    except OpsError as failed:
        raise _SnapshotUnusable(failed.message) from failed
    # btrfs counts the checksum errors that git has just met.
    if wrong := [*compare(chosen, dict(chosen.rows), refs)[:5], *world.btrfs.errors(snapshot)]:
        raise _SnapshotUnusable("; ".join(wrong))
    return refs


def compare(chosen: Manifest, rows: dict[str, int], refs: dict[str, str]) -> list[str]:
    """Return each difference between a manifest and the fetched data: row counts, and the refs of every repository."""
    tables = [
        f"table {name} has {rows.get(name, 'no')} rows of {count}"
        for name, count in chosen.rows.items()
        if rows.get(name) != count
    ]
    names = sorted({*chosen.repositories, *refs})
    return tables + [f"repository {name} differs" for name in names if chosen.repositories.get(name) != refs.get(name)]


def staging_of(paths: HostPaths) -> Staging:
    """Return the paths of a restore on the data disk."""
    return Staging(paths.data / ".restore")
