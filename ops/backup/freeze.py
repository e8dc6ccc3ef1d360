"""Freeze Gitea for the moment of a backup: database snapshot and btrfs snapshot of one point in time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from ops.backup import caches, manifest, witness
from ops.backup.contents import gitea_service, refs
from ops.backup.repositories import Repositories
from ops.backup.witness import Folder
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.step_timer import StepTimer
from ops.world import World
from ops.world.containers import FROZEN_SECONDS, RUNNING, Service
from ops.world.postgres import Session
from ops.world.restic import Stored

_HOT = "first-pass"


@dataclass(frozen=True)
class Moment:
    """The moment of a backup: when and for how many seconds Gitea was frozen, and the exported snapshot of the database.

    ``position`` is the WAL position of the moment, of the database with the system identifier ``system``. Without btrfs,
    ``data`` is the restic snapshot of Gitea's data, ``refs`` has the digests of its repositories and ``folders`` their folders.
    ``gitea`` is Gitea's container as it was at the moment.
    """

    when: datetime
    paused: float
    export: str
    system: str
    position: str
    gitea: Service
    data: Stored | None = None
    refs: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Folder, ...] = ()


def moment_of(
    site: Site,
    world: World,
    paths: HostPaths,
    both: Repositories,
    session: Session,
    timer: StepTimer,
    earlier: Collection[str],
) -> Moment:
    """Freeze Gitea, take the snapshots of database and data, and return that moment.

    A Gitea that does not run, or was paused by hand, does not write: it is left as it is. Raises OpsError when the watchdog
    resumed Gitea during the snapshots, or Gitea was started or resumed by hand.
    """
    gitea = gitea_service(world, paths)
    is_btrfs = world.btrfs.can_snapshot(paths.live)
    with timer.step("settle"):
        world.btrfs.sync(paths.data)
        if not is_btrfs:
            world.tell(
                f"{paths.live} is not a btrfs subvolume: copying it now, and later changes while Gitea is frozen"
            )
            both.local.store([paths.live], host=site.name, tags=[_HOT], exclude=caches.patterns(paths.live))
    data, digests = None, {}
    found: tuple[Folder, ...] = ()
    held = _frozen(world, paths) if gitea.state == RUNNING else _at_rest(world, paths, gitea)
    with timer.step("freeze"), held as pause:
        session.ask("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        ((export, position),) = session.ask("SELECT pg_export_snapshot(), pg_current_wal_insert_lsn()")
        when = manifest.moment_after(world.clock.now(), earlier)
        if is_btrfs:
            world.btrfs.snapshot(paths.live, paths.snapshot)
        else:
            tags = [manifest.identity_of(when), "data"]
            exclude = caches.patterns(paths.live)
            data = both.local.store([paths.live], host=site.name, tags=tags, exclude=exclude)
            digests, found = refs(world, paths, paths.live), witness.folders(paths.live)
    if not is_btrfs:
        # The first pass only saved time: it is not of one moment.
        both.local.forget([each.identity for each in both.local.snapshots(_HOT)])
    # Without a switch, the WAL up to this moment would be shipped only after the next write.
    ((system, _),) = session.ask("SELECT system_identifier, pg_switch_wal() FROM pg_control_system()")
    return Moment(when, pause.seconds, export, system, position, gitea, data, digests, found)


@dataclass
class _Pause:
    """For how many seconds Gitea was frozen."""

    seconds: float = 0.0


@contextmanager
def _at_rest(world: World, paths: HostPaths, gitea: Service) -> Iterator[_Pause]:
    """Leave a Gitea that does not write as it is; raises OpsError when it was started or resumed before the end of the block."""
    yield _Pause()
    now = gitea_service(world, paths)
    if (now.state, now.started) != (gitea.state, gitea.started):
        raise OpsError(
            f"Gitea was {gitea.state} and is {now.state} since the snapshots began: no backup was made",
            "run ops backup take again",
            left_as=f"Gitea is {now.state}",
        )


@contextmanager
def _frozen(world: World, paths: HostPaths) -> Iterator[_Pause]:
    """Freeze Gitea while the block runs; raises OpsError when the watchdog resumed it before the end of the block."""
    gitea = world.containers.name(paths.project, "gitea")
    if not paths.watchdog_image:
        raise Refused("OPS_IMAGE is not set", "run ops on the site's host as /usr/local/bin/ops")
    pause, began, held = _Pause(), 0.0, False
    watchdog = world.containers.start_watchdog(gitea, watchdog_image=paths.watchdog_image, seconds=FROZEN_SECONDS)
    try:
        began = world.clock.monotonic()
        world.containers.freeze(gitea)
        yield pause
    finally:
        try:
            held = world.containers.thaw(gitea, watchdog)
        finally:
            pause.seconds = world.clock.monotonic() - began
            world.containers.stop_watchdog(watchdog)
    if not held:
        raise OpsError(
            f"Gitea was frozen for more than {FROZEN_SECONDS:.0f} s and the watchdog resumed it: no backup was made",
            "check the load of the disk; with Gitea's data on btrfs (host.data_device) a snapshot takes an instant",
            left_as="Gitea runs",
        )
