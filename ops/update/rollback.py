"""Resume an update that was interrupted, and roll back the last one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from ops.config.paths import COMPOSE_DIRECTORY, HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused, Stranded
from ops.model import Confirm, Report
from ops.stack.nginx_handover import NGINX
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
from ops.update.outcome import commit, kept_update, undone, way_out
from ops.world import World
from ops.world.lock import exclusive


def resume(site: Site, world: World, *, paths: HostPaths | None = None, compose: Path = COMPOSE_DIRECTORY) -> Report:
    """Finish or undo an update that was cut off; else change nothing but end what was kept long enough.

    Raises RolledBack or Stranded as ``update`` does.
    """
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    with exclusive(at.paths.lock, world.clock.now(), "ops update --resume"):
        done = resumed(at)
        if done is None:
            forget(at, world.clock.now())
    return done or Report("update", False, "no update was cut off")


def rollback(
    site: Site,
    world: World,
    *,
    confirm: Confirm,
    dry_run: bool = False,
    paths: HostPaths | None = None,
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Go back to the version before the last update of what has data, with the data of then.

    Raises Refused when nothing is kept to go back to, or no one agrees to what is lost, Unavailable when the image of before
    cannot be had any more: then nothing was changed. Raises Stranded when the version before does not come up.
    """
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    with exclusive(at.paths.lock, world.clock.now(), "ops rollback"):
        resumed(at)
        known = kept_update(at)
        if known is None or not all((at.before / name).exists() for name in DATA):
            raise Refused(
                "nothing is kept to go back to", "docs/runbooks/update.md, under: further back than what is kept"
            )
        lost = world.clock.now() - known.began
        lines = (
            f"back: {known.move.service} {known.move.there.tag} -> {known.move.here.tag}, with the data of then",
            f"lost: what was written since {known.began:%Y-%m-%d %H:%M:%S} UTC, {lost.total_seconds() / 3600:.1f} h; "
            f"it is kept aside in {at.undone}",
        )
        if dry_run:
            told = {"service": known.move.service, "plan": list(lines)}
            return Report("rollback", False, "would go back", told, lines)
        confirm(site.name, lines)
        # No container holds the image of before, and whoever made room may have removed it.
        world.containers.pull(known.move.here.name, known.move.here.digest)
        for name in DATA:
            world.btrfs.remove(at.undone / name)
        at.journal.append(begin_record(replace(known, rollback=True)))
        with MaintenanceWindow(at) as outage:
            story = Progress(StepTimer(world), outage)
            _went_back(at, replace(known, rollback=True), story)
    return Report(
        "rollback",
        True,
        f"{known.move.service} is {known.move.here.tag} again; the site was away for {story.away:.1f} s",
        {"service": known.move.service, "to": str(known.move.here), "away": story.away},
        (f"kept aside: {at.undone}",),
    )


def resumed(at: UpdateContext) -> Report | None:
    """Finish or undo what was cut off; None when nothing was."""
    pending = pending_from(at.journal.records())
    if pending is None:
        return None
    at.world.tell(f"an update was cut off: {pending.move}, after {(pending.steps or ('begin',))[-1]}")
    since = None
    if pending.away_since and pending.move.service != NGINX:
        since = at.world.clock.monotonic() - (at.world.clock.now() - pending.away_since).total_seconds()
    with MaintenanceWindow(at, since=since) as outage:
        return _gone_on(at, pending, Progress(StepTimer(at.world), outage))


def _gone_on(at: UpdateContext, pending: Pending, story: Progress) -> Report:
    """Finish what a journal says is under way, or raise how undoing it went."""
    if pending.rollback:
        return _went_back(at, pending, story)
    if "commit" in pending.steps:
        return commit(at, pending, story, pending.move.there, "updated")
    if not pending.undoing and "up" in pending.steps:
        try:
            steps.whole_stack(at)
            steps.up(Run(at, pending, story))
            steps.take(Run(at, pending, story), "judge", steps.check_new_version)
        except OpsError as failed:
            raise undone(at, pending_from(at.journal.records()) or pending, story, failed.message) from failed
        return commit(at, pending, story, pending.move.there, "updated")
    raise undone(at, pending, story, pending.why or "it was cut off")


def _went_back(at: UpdateContext, pending: Pending, story: Progress) -> Report:
    """Go back because an operator asked for it, or finish that."""
    wanted = replace(pending, with_data=True, why="an operator asked for it")
    if "commit" not in pending.steps:
        try:
            steps.go_back(at, wanted, story)
        except OpsError as error:
            message = f"{pending.move.here.tag} does not come up with the data of then: {error.message}"
            raise Stranded(message, way_out(at, wanted)) from error
    return commit(at, wanted, story, pending.move.here, "went back")


def forget(at: UpdateContext, now: datetime) -> None:
    """End what was kept for a way back that is no longer taken: it grows as the site changes."""
    if known := outlived(at, now):
        at.world.tell(f"the pictures of before {known.move} are {at.site.update.keep_days} days old, and go")
        at.world.files.remove(at.kept)
        for folder in (at.before, at.undone):
            for name in DATA:
                at.world.btrfs.remove(folder / name)


def outlived(at: UpdateContext, now: datetime) -> Pending | None:
    """What is kept for a way back, when it has been kept long enough."""
    known = kept_update(at)
    return known if known and now - known.began > timedelta(days=at.site.update.keep_days) else None
