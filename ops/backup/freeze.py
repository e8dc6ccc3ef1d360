"""Freeze Gitea for the moment of a backup: database snapshot and btrfs snapshot of one point in time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from ops.backup import manifest
from ops.backup.contents import refs
from ops.backup.repositories import Repositories
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.step_timer import StepTimer
from ops.world import World
from ops.world.containers import FROZEN_SECONDS
from ops.world.postgres import Session
from ops.world.restic import Stored

_HOT = "first-pass"


@dataclass(frozen=True)
class Moment:
    """What was so while the site stood still: when, for how long, and the content of the database.

    ``position`` is that in the database's log, of the database ``system``.

    ``data`` is the snapshot of Gitea's data where no picture of it could be taken, and ``refs`` what git said of it then.
    """

    when: datetime
    paused: float
    export: str
    system: str
    position: str
    data: Stored | None = None
    refs: Mapping[str, str] = field(default_factory=dict)


def moment_of(
    site: Site,
    world: World,
    paths: HostPaths,
    both: Repositories,
    session: Session,
    timer: StepTimer,
    earlier: Collection[str],
) -> Moment:
    """Freeze Gitea, take the snapshots of database and data, and return what was true at that moment."""
    gitea = world.containers.name(paths.project, "gitea")
    photographs = world.btrfs.can_snapshot(paths.live)
    with timer.step("settle"):
        world.btrfs.sync(paths.data)
        if not photographs:
            world.tell(
                f"{paths.live} is no btrfs subvolume: it is copied now, and what changes meanwhile while Gitea is frozen"
            )
            both.local.store([paths.live], host=site.name, tags=[_HOT])
    data, digests = None, {}
    with timer.step("freeze"), _frozen(world, paths, gitea) as still:
        session.ask("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        ((export, position),) = session.ask("SELECT pg_export_snapshot(), pg_current_wal_insert_lsn()")
        when = manifest.moment_after(world.clock.now(), earlier)
        if photographs:
            world.btrfs.snapshot(paths.live, paths.snapshot)
        else:
            tags = [manifest.identity_of(when), "data"]
            data = both.local.store([paths.live], host=site.name, tags=tags)
            digests = refs(world, paths, paths.live)
    if not photographs:
        # It made the files known, and is of no moment.
        both.local.forget([each.identity for each in both.local.snapshots(_HOT)])
    # The log is not to wait for the next write before it leads up to this moment.
    ((system, _),) = session.ask("SELECT system_identifier, pg_switch_wal() FROM pg_control_system()")
    return Moment(when, still.seconds, export, system, position, data, digests)


@dataclass
class _Still:
    """For how many seconds the site stood still."""

    seconds: float = 0.0


@contextmanager
def _frozen(world: World, paths: HostPaths, gitea: str) -> Iterator[_Still]:
    """Freeze Gitea for the length of the block; raises OpsError when someone had to let it go on before that ended."""
    if not paths.watchdog_image:
        raise Refused("OPS_IMAGE is not set", "run ops on the site's host, by /usr/local/bin/ops")
    still, began, held = _Still(), 0.0, False
    watch = world.containers.start_watchdog(gitea, watchdog_image=paths.watchdog_image, seconds=FROZEN_SECONDS)
    try:
        began = world.clock.monotonic()
        world.containers.freeze(gitea)
        yield still
    finally:
        held = world.containers.thaw(gitea)
        still.seconds = world.clock.monotonic() - began
        world.containers.stop_watchdog(watch)
    if not held:
        raise OpsError(
            f"the site would have stood still for more than {FROZEN_SECONDS:.0f} s, and was let go on: no backup was made",
            "is the disk overloaded? Gitea's data on btrfs (host.data_device) makes this an instant",
        )
