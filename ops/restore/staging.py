"""Fetch a backup beside the running site and compare it with its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ops.backup import contents
from ops.backup.manifest import Manifest
from ops.backup.repositories import DUMP, Repositories
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.images.pins import pin_from
from ops.restore.plan import RestoreRequest, check_room, plan_wal, require_reader, wal_lines
from ops.step_timer import StepTimer
from ops.wal import base_backups, recovery, segments
from ops.wal.plan import ReplayPlan
from ops.world import World
from ops.world import postgres as world_postgres
from ops.world.restic import Full, Restic, folder_of

# The database as it is fetched, and the one that was in its place.
STAGED, ASIDE = "gitea_restored", "gitea_before"


@dataclass(frozen=True)
class Staging:
    """Where on the data disk a restore works: what is fetched, what was in its place, and the journal of the switch."""

    folder: Path

    @property
    def data(self) -> Path:
        """What was fetched and is not in its place yet."""
        return self.folder / "gitea"

    @property
    def aside(self) -> Path:
        """What was in its place before."""
        return self.folder / "before"

    @property
    def journal(self) -> Path:
        """There while a switch is under way; says to which backup, and of which repository if it is of one alone."""
        return self.folder / "journal"


@dataclass(frozen=True)
class Origin:
    """Where it comes from: the repositories; the picture that the data was stored from; base and log, if not of the dump."""

    both: Repositories
    log: WalSource | None
    picture: Path | None


class _Unfit(OpsError):
    """The picture that the data was to be taken from cannot be used; what of a restore was there is removed again."""


def have_beside(
    site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin, timer: StepTimer
) -> tuple[str, Origin]:
    """Have all of a backup beside the site, as its manifest says; where its picture is not to be used after all, by fetching it.

    Returns until when the database goes, where that is told by its log, and where all came from.
    """
    try:
        return _fetched(site, world, paths, chosen, origin, timer), origin
    except _Unfit as unfit:
        world.tell(f"the picture on the data disk cannot be used, so all is fetched: {unfit.message}")
        base = origin.log.plan.base.size if origin.log else 0
        if lacking := check_room(chosen, world.btrfs.free(paths.data), base, photographed=False):
            raise Refused(f"{unfit.message}; and {lacking}", "nothing of the site was touched") from unfit
    fetching = replace(origin, picture=None)
    return _fetched(site, world, paths, chosen, fetching, timer), fetching


def _fetched(site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin, timer: StepTimer) -> str:
    """Fetch a backup and compare it with its manifest; nothing of it stays when it is not that.

    Returns until when the database goes, where that is told by its log. Raises _Unfit when it is the picture that is wrong.
    """
    with ExitStack() as undo:
        undo.callback(clear, world, paths)
        with timer.step("fetch"):
            until = _stage(site, world, paths, chosen, origin)
        with timer.step("compare"):
            refs = (
                _refs_of_picture(world, paths, chosen, origin.picture) if origin.picture else staged_refs(world, paths)
            )
            # Of a newer database no one knows beforehand how many rows it has.
            rows = dict(chosen.rows) if origin.log and origin.log.newest else staged_rows(world, paths)
            if differing := compare(chosen, rows, refs):
                raise Refused(
                    f"what was fetched is not what backup {chosen.identity} says: {'; '.join(differing[:5])}",
                    "the site was not touched; restore another backup: ops backup list",
                )
        undo.pop_all()
    return until


@dataclass(frozen=True)
class WalSource:
    """The database out of its log: how, of which it is the newest, and where that is done."""

    plan: ReplayPlan
    newest: bool
    place: recovery.ReplayTarget


def wal_source(
    site: Site, world: World, paths: HostPaths, chosen: Manifest, request: RestoreRequest
) -> WalSource | None:
    """How the log makes the database that is wished for; None when it is the dump that is wished for."""
    if not (request.from_wal or request.newest_database) or request.repository:
        return None
    if not chosen.system:
        raise Refused(f"backup {chosen.identity} is from before the log was kept", "restore its dump: ops restore")
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
    place = recovery.ReplayTarget(
        *_scratch(paths), image=image, key=base_backups.encryption_key(paths.secrets), waiting=waiting, unshipped=left
    )
    return WalSource(planned, request.newest_database, place)


def _scratch(paths: HostPaths) -> tuple[Path, str]:
    """Where a database is made of its log: the folder, and the container's name."""
    return paths.data / ".replay", f"{paths.project}-replay"


def wal_plan_lines(chosen: Manifest, log: WalSource | None) -> tuple[str, ...]:
    """Return the plan's lines about the WAL, none when the dump is restored."""
    return wal_lines(chosen, log.plan, newest=log.newest) if log else ()


def _load_log(site: Site, world: World, paths: HostPaths, both: Repositories, log: WalSource) -> str:
    """Fill the staged database with that of base and log, and return until when it goes."""
    local = log.plan.base.local in {each.identity for each in both.local.snapshots_if_there() or ()}
    source = both.local if local else both.remote
    with recovery.recovered_database(site, world, log.plan, source, log.place) as container:
        until = recovery.last_transaction(world, container)
        postgres = world.containers.name(paths.project, "postgres")
        dump, load = world_postgres.dump(container), world_postgres.load(postgres, STAGED)
        done = world.processes.pipe(dump, load, environment={}, tell=world.tell)
        if done.code:
            raise OpsError(f"the replayed database cannot be brought over: {done.output.strip()[-600:]}")
    return until


def _stage(site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin) -> str:
    """Fetch data and database beside those in use, from the bucket when this host's copy is damaged.

    Returns until when the database goes, where that is told by its log.
    """
    *first, last = sources_of(chosen, origin.both)
    for source, snapshots in first:
        clear(world, paths)
        try:
            _fetch(world, paths, source, snapshots, origin.picture)
            return _load(site, world, paths, origin, source, snapshots)
        except OpsError as failed:
            if not is_damage(failed):
                raise
            what = "the database" if origin.picture else "all"
            world.tell(f"this host's copy is damaged, {what} is fetched from the bucket: {failed.message}")
    clear(world, paths)
    _fetch(world, paths, *last, origin.picture)
    try:
        return _load(site, world, paths, origin, *last)
    except OpsError as failed:
        if origin.log or not is_damage(failed):
            raise
        return _load_spare(site, world, paths, chosen, origin, failed)


def is_damage(failed: OpsError) -> bool:
    """What has a code of its own, a full disk and a picture that is of no use would be the same from elsewhere."""
    return failed.exit_code == OpsError.exit_code and not isinstance(failed, Full | _Unfit)


def _fetch(world: World, paths: HostPaths, source: Restic, snapshots: Mapping[str, str], picture: Path | None) -> None:
    staging = staging_of(paths)
    if picture:
        try:
            world.btrfs.clone(picture, staging.data)
        except OpsError as failed:
            raise _Unfit(failed.message) from failed
    else:
        if world.btrfs.can_snapshot(paths.live):
            world.btrfs.make(staging.data)
        source.restore(snapshots["data"], staging.data, include=folder_of(source, snapshots["data"]))
        world.btrfs.own_like(paths.live, staging.data)
    with world.postgres.session(world.containers.name(paths.project, "postgres"), "postgres") as session:
        session.ask(f"CREATE DATABASE {STAGED} TEMPLATE template0")


def _load(
    site: Site, world: World, paths: HostPaths, origin: Origin, source: Restic, snapshots: Mapping[str, str]
) -> str:
    """Fill the staged database with the dump, or from the log; returns until when the latter goes."""
    if origin.log:
        return _load_log(site, world, paths, origin.both, origin.log)
    postgres = world.containers.name(paths.project, "postgres")
    source.dump_into(snapshots["database"], DUMP, world_postgres.load(postgres, STAGED), world.tell)
    return ""


def _load_spare(site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin, failed: OpsError) -> str:
    """Fill the staged database with what base and log make of the dump's moment; returns until when that goes."""
    world.tell(f"the dump cannot be used, so its moment is made of base and log: {failed.message}")
    try:
        spare = wal_source(site, world, paths, chosen, RestoreRequest(from_wal=True))
    except OpsError as again:
        raise OpsError(f"{failed.message}\nand of its log: {again.message}", failed.hint) from failed
    assert spare
    return _load_log(site, world, paths, origin.both, spare)


def sources_of(chosen: Manifest, both: Repositories) -> list[tuple[Restic, dict[str, str]]]:
    """Return the repositories to fetch a backup from, and its snapshots there: this host's, where all of it is, then the bucket's."""
    remote = {name: part.remote for name, part in chosen.parts.items()}
    local = {name: part.local for name, part in chosen.parts.items()}
    here = set(local.values()) <= {each.identity for each in both.local.snapshots_if_there() or ()}
    return [*([(both.local, local)] if here else []), (both.remote, remote)]


def clear(world: World, paths: HostPaths) -> None:
    """Remove what a restore has left. What the last one kept aside was kept until now."""
    clear_fetched(world, paths)
    world.btrfs.remove(staging_of(paths).aside)
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
        # By force: what a run that was killed began in the database's container may still be at work.
        session.ask(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def staged_rows(world: World, paths: HostPaths) -> dict[str, int]:
    """Return the number of rows in each main table of the staged database."""
    with world.postgres.session(world.containers.name(paths.project, "postgres"), STAGED) as session:
        return dict(contents.content(session).rows)


def staged_refs(world: World, paths: HostPaths) -> dict[str, str]:
    """Return a digest of the refs of each staged repository."""
    return contents.refs(world, paths, staging_of(paths).data)


def _refs_of_picture(world: World, paths: HostPaths, chosen: Manifest, picture: Path) -> dict[str, str]:
    """Return the refs of what was made of the picture; raises _Unfit when they cannot be read, or are not the manifest's."""
    try:
        refs = staged_refs(world, paths)
    except OpsError as failed:
        raise _Unfit(failed.message) from failed
    # What has rotted since it was looked at was counted as git met it.
    if wrong := [*compare(chosen, dict(chosen.rows), refs)[:5], *world.btrfs.errors(picture)]:
        raise _Unfit("; ".join(wrong))
    return refs


def compare(chosen: Manifest, rows: dict[str, int], refs: dict[str, str]) -> list[str]:
    """Return each difference between a manifest and what was fetched: counts of rows, and the refs of every repository."""
    tables = [
        f"table {name} has {rows.get(name, 'no')} rows of {count}"
        for name, count in chosen.rows.items()
        if rows.get(name) != count
    ]
    names = sorted({*chosen.repositories, *refs})
    return tables + [f"repository {name} differs" for name in names if chosen.repositories.get(name) != refs.get(name)]


def staging_of(paths: HostPaths) -> Staging:
    """Return where a restore works on the data disk."""
    return Staging(paths.data / ".restore")
