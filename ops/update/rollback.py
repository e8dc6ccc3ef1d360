"""Resume an update that was interrupted, and roll back the last one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from ops.config.paths import COMPOSE_DIRECTORY, HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused
from ops.model import Confirm, Report
from ops.stack.handover import REPLACEABLE
from ops.step_timer import StepTimer
from ops.update import steps
from ops.update.journal import (
    DATA,
    MaintenanceWindow,
    Pending,
    Progress,
    Run,
    UpdateContext,
    begin_record,
    pending_from,
)
from ops.update.outcome import commit, kept_update, stranded, undo
from ops.world import World
from ops.world.lock import exclusive


def resume(site: Site, world: World, *, paths: HostPaths | None = None, compose: Path = COMPOSE_DIRECTORY) -> Report:
    """Finish or undo an interrupted update; if there is none, only remove snapshots that are too old.

    Raises RolledBack or Stranded as ``update`` does.
    """
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    with exclusive(at.paths.lock, world.clock.now(), "ops update --resume"):
        done = resume_interrupted(at)
        if done is None:
            remove_expired(at, world.clock.now())
    return done or Report("update", False, "no update was interrupted")


def rollback(
    site: Site,
    world: World,
    *,
    confirm: Confirm,
    dry_run: bool = False,
    paths: HostPaths | None = None,
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Roll back the last update of a service with data: the version before it, with the data of that time.

    Raises Refused if there is no snapshot to roll back to, or the operator does not accept the loss. Raises Unavailable if
    the old image cannot be pulled. In these cases nothing was changed. Raises Stranded if the old version does not start.
    """
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    with exclusive(at.paths.lock, world.clock.now(), "ops rollback"):
        resume_interrupted(at)
        pending = _rollback_target(at)
        planned, lines = pending.planned, _plan(at, pending)
        if dry_run:
            facts = {"service": planned.service, "plan": list(lines)}
            return Report("rollback", False, "would roll back", facts, lines)
        confirm(site.name, lines)
        # No container uses the old image, so an operator may have pruned it.
        world.containers.pull(planned.current.name, planned.current.digest)
        for name in DATA:
            world.btrfs.remove(at.set_aside / name)
        at.journal.append(begin_record(replace(pending, rollback=True)))
        with MaintenanceWindow(at) as window:
            progress = Progress(StepTimer(world), window)
            _roll_back(at, replace(pending, rollback=True), progress)
    return Report(
        "rollback",
        True,
        f"{planned.service} is at {planned.current.tag} again; the site was unavailable for {progress.away:.1f} s",
        {"service": planned.service, "to": str(planned.current), "away": progress.away},
        (f"kept aside: {at.set_aside}",),
    )


def resume_interrupted(at: UpdateContext) -> Report | None:
    """Finish or undo an interrupted update; return None if there is none."""
    pending = pending_from(at.journal.records())
    if pending is None:
        return None
    at.world.tell(f"an update was interrupted: {pending.planned}, after {(pending.steps or ('begin',))[-1]}")
    since = None
    if pending.away_since and pending.planned.service not in REPLACEABLE:
        since = at.world.clock.monotonic() - (at.world.clock.now() - pending.away_since).total_seconds()
    with MaintenanceWindow(at, since=since) as window:
        return _finish_or_undo(at, pending, Progress(StepTimer(at.world), window))


def remove_expired(at: UpdateContext, now: datetime) -> None:
    """Remove the snapshots of an update once they are too old: they take more space as the site changes."""
    if pending := expired_update(at, now):
        at.world.tell(
            f"the snapshots from before {pending.planned} are older than {at.site.update.keep_days} days and are removed"
        )
        at.world.files.remove(at.rollback_record)
        for folder in (at.snapshots, at.set_aside):
            for name in DATA:
                at.world.btrfs.remove(folder / name)


def expired_update(at: UpdateContext, now: datetime) -> Pending | None:
    """Return the update that a rollback can undo if its snapshots are older than ``update.keep_days``, else None."""
    pending = kept_update(at)
    return pending if pending and now - pending.began > timedelta(days=at.site.update.keep_days) else None


def _rollback_target(at: UpdateContext) -> Pending:
    pending = kept_update(at)
    if pending is None or not all((at.snapshots / name).exists() for name in DATA):
        raise Refused(
            "there is no snapshot to roll back to",
            'restore a backup: docs/runbooks/update.md, "Further back than what is kept"',
            left_as="nothing was changed",
        )
    return pending


def _plan(at: UpdateContext, pending: Pending) -> tuple[str, ...]:
    planned, lost = pending.planned, at.world.clock.now() - pending.began
    return (
        f"rolled back: {planned.service} {planned.target.tag} -> {planned.current.tag}, with the data of that time",
        f"lost: the data written since {pending.began:%Y-%m-%d %H:%M:%S} UTC, {lost.total_seconds() / 3600:.1f} h; "
        f"it is kept aside in {at.set_aside}",
    )


def _finish_or_undo(at: UpdateContext, pending: Pending, progress: Progress) -> Report:
    """Finish the update that a journal leaves open, or undo it and raise the result."""
    if pending.rollback:
        return _roll_back(at, pending, progress)
    if "commit" in pending.steps:
        return commit(at, pending, progress, pending.planned.target, "updated")
    if pending.undoing or "up" not in pending.steps:
        raise undo(at, pending, progress, pending.why or "it was interrupted")
    try:
        steps.start_stack(at)
        steps.up(Run(at, pending, progress))
        steps.run_step(Run(at, pending, progress), "judge", steps.check_new_version)
    except OpsError as failed:
        raise undo(at, pending_from(at.journal.records()) or pending, progress, failed) from failed
    return commit(at, pending, progress, pending.planned.target, "updated")


def _roll_back(at: UpdateContext, pending: Pending, progress: Progress) -> Report:
    """Roll back at an operator's request, or finish a rollback that was interrupted."""
    planned = pending.planned
    requested = replace(pending, with_data=True, why="an operator asked for it")
    if "commit" not in pending.steps:
        try:
            steps.go_back(at, requested, progress)
        except OpsError as error:
            message = f"{planned.current.tag} does not start with the data of that time: {error.message}"
            raise stranded(at, requested, message) from error
    return commit(at, requested, progress, planned.current, "went back")
