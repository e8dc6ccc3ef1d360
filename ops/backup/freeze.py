"""Freeze Gitea for the moment of a backup: database snapshot and btrfs snapshot of one point in time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from ops.backup import manifest
from ops.backup.contents import refs
from ops.backup.repositories import Repositories
from ops.config.paths import Places
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.step_timer import Timeline
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
    places: Places,
    both: Repositories,
    session: Session,
    timeline: Timeline,
    earlier: Collection[str],
) -> Moment:
    """Freeze Gitea, take the snapshots of database and data, and return what was true at that moment."""
    gitea = world.containers.name(places.project, "gitea")
    photographs = world.subvolumes.can_photograph(places.live)
    with timeline.step("settle"):
        world.subvolumes.settle(places.data)
        if not photographs:
            world.tell(
                f"{places.live} is no btrfs subvolume: it is copied now, and what changes meanwhile while Gitea is frozen"
            )
            both.local.store([places.live], host=site.name, tags=[_HOT])
    data, digests = None, {}
    with timeline.step("freeze"), _frozen(world, places, gitea) as still:
        session.ask("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        ((export, position),) = session.ask("SELECT pg_export_snapshot(), pg_current_wal_insert_lsn()")
        when = manifest.moment_after(world.clock.now(), earlier)
        if photographs:
            world.subvolumes.photograph(places.live, places.picture)
        else:
            tags = [manifest.identity_of(when), "data"]
            data = both.local.store([places.live], host=site.name, tags=tags)
            digests = refs(world, places, places.live)
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
def _frozen(world: World, places: Places, gitea: str) -> Iterator[_Still]:
    """Freeze Gitea for the length of the block; raises OpsError when someone had to let it go on before that ended."""
    if not places.watchman:
        raise Refused("OPS_IMAGE is not set", "run ops on the site's host, by /usr/local/bin/ops")
    still, began, held = _Still(), 0.0, False
    watch = world.containers.guard(gitea, watchman=places.watchman, seconds=FROZEN_SECONDS)
    try:
        began = world.clock.monotonic()
        world.containers.freeze(gitea)
        yield still
    finally:
        held = world.containers.thaw(gitea)
        still.seconds = world.clock.monotonic() - began
        world.containers.dismiss(watch)
    if not held:
        raise OpsError(
            f"the site would have stood still for more than {FROZEN_SECONDS:.0f} s, and was let go on: no backup was made",
            "is the disk overloaded? Gitea's data on btrfs (host.data_device) makes this an instant",
        )
