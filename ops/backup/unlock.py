"""Remove the locks of killed runs from the repository in the bucket."""

from __future__ import annotations

import platform
import re
from datetime import datetime

from ops.backup.repositories import LOCKS, repositories
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import Locked, OpsError
from ops.model import Report
from ops.world import World
from ops.world.restic import Restic
from ops.world.restic_locks import STALE, LockHolder

# Every container of `ops` on a host has this label (playbooks/roles/ops/templates/ops.sh.j2).
_CONTAINERS = ["docker", "ps", "--quiet", "--filter", "label=gitea-suite.verb"]


def unlock(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Remove each lock of the bucket's repository whose holder is provably gone.

    A holder is gone if its lock was not refreshed for half an hour, or if it ran on this host and restic runs in no
    container of ``ops``. Raises Locked with the other holders; their locks stay.
    """
    gone, held = remove_locks_of_killed_runs(site, world, repositories(site, world, paths or HostPaths()).remote)
    if held:
        raise _held(held, len(gone))
    lines = tuple(f"removed: {holder}" for holder in gone.values())
    summary = f"{len(gone)} locks of killed runs were removed" if gone else "the repository in the bucket is not locked"
    return Report("backup", bool(gone), summary, {"removed": sorted(gone)}, lines)


def remove_locks_of_killed_runs(
    site: Site, world: World, remote: Restic
) -> tuple[dict[str, LockHolder], list[LockHolder]]:
    """Remove the locks of the bucket's repository whose holder is gone; return them by name, and the other holders.

    Not restic's own `unlock`: it takes a holder with this host's name and an unknown process id for gone, but each container
    has process ids of its own.
    """
    found = remote.locks()
    gone = _gone(world, found)
    for name in gone:
        world.aws.hide_object(site.backup.bucket, f"{LOCKS}{name}")
    return gone, [holder for name, holder in found.items() if name not in gone]


def _gone(world: World, found: dict[str, LockHolder]) -> dict[str, LockHolder]:
    """Return the locks whose holder is gone. The processes are read after the locks, so that a running holder is seen."""
    own = _of_this_host(found)
    dead = {} if not own or _restic_runs(world) else own
    now = world.clock.now()
    return {name: holder for name, holder in found.items() if name in dead or holder.is_stale(now)}


def _of_this_host(found: dict[str, LockHolder]) -> dict[str, LockHolder]:
    # The containers of ops are in the host's network namespace and have its name.
    return {name: holder for name, holder in found.items() if holder.host == platform.node()}


def _restic_runs(world: World) -> bool:
    """Return whether restic runs in a container of ``ops`` on this host; also True if the engine does not tell."""
    try:
        listed = world.processes.run(_CONTAINERS)
        return listed.code != 0 or any(runs_restic(world, each) for each in listed.output.split())
    except OpsError:
        return True


def runs_restic(world: World, container: str) -> bool:
    """Return whether restic runs in a container; also True if the engine does not tell."""
    # docker top requires the column pid.
    top = world.processes.run(["docker", "top", container, "-eo", "pid,args"])
    if top.code:
        return not re.search(r"is not running|No such container", top.output)
    programs = [line.split(maxsplit=2)[1] for line in top.output.splitlines()[1:]]
    return any(each.rpartition("/")[2] == "restic" for each in programs)


def _held(held: list[LockHolder], removed: int) -> Locked:
    last: datetime = max(each.refreshed for each in held) + STALE
    return Locked(
        f"the repository in the bucket is in use: {'; '.join(map(str, held))}",
        f"wait until that run has ended, or end it on its host; without a refresh the lock can be removed from {last:%H:%M:%S} UTC",
        left_as=f"{removed} locks of killed runs were removed" if removed else "nothing was changed",
    )
