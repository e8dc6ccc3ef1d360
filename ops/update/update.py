"""An update succeeds, or was never there. Whatever ends it, the journal on the data disk says what was under way.

The new image is pulled and a backup is taken while the site runs. Then Gitea is stopped, data and database are photographed,
and the new version starts on them. It stays when it is well; else image and data go back together. Who finds a journal that
was not closed finishes or undoes, by what is the case then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ops.backup import catalogue, take
from ops.backup.manifest import Manifest
from ops.config.paths import COMPOSE_DIRECTORY, HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, Refused, RolledBack, Unavailable
from ops.images import pins
from ops.model import Confirm, Report
from ops.stack import accounts
from ops.step_timer import StepTimer
from ops.update import available, pg_upgrade, policy, smoke_test, steps
from ops.update.history import read_entries
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
from ops.update.outcome import commit, undone
from ops.update.plan import (
    PlannedUpdate,
    UpdatePreconditions,
    UpdateRequest,
    blockers,
    consequences,
    documents,
    names,
    plan_updates,
)
from ops.update.rollback import forget, outlived, resumed
from ops.world import World
from ops.world.lock import exclusive


def update(
    site: Site,
    world: World,
    *,
    request: UpdateRequest,
    confirm: Confirm,
    paths: HostPaths | None = None,
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Take services a step further, each wholly or not at all.

    Raises Refused when something stands in the way or no one agrees, Unavailable when an image cannot be had: then nothing
    was changed. Raises RolledBack when a new version was not well and everything is as it was before, Stranded when that
    is not well either, Degraded when the update is done but could not be recorded, Locked while another operation runs.
    """
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    now = world.clock.now()
    if request.automatic and not at.journal.records() and not _is_due(at, now) and not outlived(at, now):
        return Report("update", False, "no update is due")
    with exclusive(at.paths.lock, now, "ops update"):
        if resumed(at) is None and request.automatic:
            forget(at, now)
        if request.automatic and not _is_due(at, now):
            return Report("update", False, "no update is due")
        moves = _wanted(at, request, now)
        if not moves:
            return Report("update", False, "there is nothing to update")
        facts = _facts(at)
        if problems := blockers(moves, facts, request):
            raise Refused("\n".join(problems), "nothing was changed; ops update --check")
        lines = (*map(str, moves), *consequences(moves, facts, site))
        if request.dry_run:
            told = {**documents(moves), "plan": list(lines)}
            return Report("update", False, f"would update {names(moves)}", told, lines)
        confirm(site.name, lines)
        reports = _each_moved(at, moves, automatic=request.automatic)
    return _all_of(reports, moves)


def empty(made: Manifest) -> str:
    """Return why a backup that was just taken is none, "" when it is one (go-gitea/gitea issue 34067: 22 bytes, exit 0)."""
    for name, part in made.parts.items():
        if part.size <= 0:
            return f"its {name} is empty"
    if made.rows.get("user", 0) < 1:
        return "it has no user"
    if made.rows.get("repository", 0) and not made.repositories:
        return f"it has none of {made.rows['repository']} repositories"
    return ""


def _facts(at: UpdateContext) -> UpdatePreconditions:
    paths, world = at.paths, at.world
    with world.postgres.session(world.containers.name(paths.project, "postgres")) as session:
        ((size,),) = session.ask("SELECT pg_database_size(current_database())")
        strangers = pg_upgrade.foreign_objects(session)
    return UpdatePreconditions(
        red=smoke_test.failing_probes(at.site, world, project=paths.project),
        free_data=world.btrfs.free(paths.data),
        free_images=world.btrfs.free(at.compose),
        database=int(size),
        photographs=all(world.btrfs.can_snapshot(paths.data / name) for name in DATA),
        undrilled=catalogue.drill_overdue(at.site, world),
        strangers=strangers,
    )


def _is_due(at: UpdateContext, now: datetime) -> bool:
    last = datetime.fromisoformat(at.last.read_text(encoding="utf-8")) if at.last.exists() else None
    return policy.is_due(policy.window_from(at.site.update.window, at.site.timezone), last, now)


def _wanted(at: UpdateContext, request: UpdateRequest, now: datetime) -> tuple[PlannedUpdate, ...]:
    """Return the steps that are wished for, each to the bytes that its tag stands for now; raises Unavailable when no one can tell."""
    found = available.gather(at.site, at.world, available.running(at.compose), now)
    planned = plan_updates(found, request, at.site)
    moves = tuple(_looked_up(at, each) for each in planned if not (request.automatic and _is_given_up(at, each)))
    unknown = [f"{each.service}: {each.unknown}" for each in found if each.unknown]
    # A registry that did not answer is asked again while the window is open.
    if request.automatic and (moves or not unknown):
        at.folder.mkdir(mode=0o700, exist_ok=True)
        at.world.files.write(at.last, now.isoformat().encode())
    if unknown and not moves and not request.automatic:
        raise Unavailable("; ".join(unknown), "nothing was changed; try again later")
    return moves


def _each_moved(at: UpdateContext, moves: Sequence[PlannedUpdate], *, automatic: bool) -> list[Report]:
    """Take each step. Where no one asked for them, one that fails and is taken back stops no other, and is raised at the end."""
    reports: list[Report] = []
    failures: list[OpsError] = []
    for each in moves:
        try:
            reports.append(_moved(at, each, automatic=automatic))
        except (RolledBack, Refused, Unavailable) as failed:
            if not automatic:
                raise
            at.world.tell(f"{each}: {failed.message}")
            failures.append(failed)
    if failures:
        first = failures[0]
        first.message = "; ".join([*(each.message for each in failures), *(each.summary for each in reports)])
        raise first
    return reports


def _is_given_up(at: UpdateContext, move: PlannedUpdate) -> bool:
    """Whether a release was taken back when it was tried last, or someone went back from it: no one tries it again unasked."""
    tried = [
        entry["outcome"]
        for entry in read_entries(at)
        if entry["service"] == move.service and pins.pin_from(entry["to"]).tag == move.there.tag
    ]
    if tried[-1:] in (["rolled back"], ["went back"]):
        at.world.tell(f"{move}: was taken back when it was tried last; ops update {move.service} tries it again")
        return True
    return False


def _moved(at: UpdateContext, move: PlannedUpdate, *, automatic: bool) -> Report:
    """Take one step, from the pull to the pin that stays."""
    with MaintenanceWindow(at) as outage:
        story = Progress(StepTimer(at.world), outage)
        try:
            pending = _prepared(at, move, story, automatic=automatic)
        except OpsError as error:
            if error.exit_code == 1:
                raise Refused(f"{move} cannot begin: {error.message}", error.hint or "nothing was changed") from error
            raise
        _tidy(at, move)
        at.journal.append(begin_record(pending))
        try:
            steps.forward(Run(at, pending, story))
        except OpsError as failed:
            raise undone(at, pending_from(at.journal.records()) or pending, story, failed.message) from failed
        except BaseException:
            undone(at, pending_from(at.journal.records()) or pending, story, "it was interrupted")
            raise
        return commit(at, pending, story, move.there, "updated")


def _looked_up(at: UpdateContext, move: PlannedUpdate) -> PlannedUpdate:
    """Name the bytes that a tag stands for now: these are agreed to, and no others are taken, though the tag may move on."""
    try:
        digest = move.there.digest or at.world.registry.digest(move.there.image)
    except OpsError as error:
        if error.exit_code != OpsError.exit_code:
            raise
        raise Refused(error.message, "nothing was changed; ops update --check") from error
    return replace(move, there=replace(move.there, digest=digest))


def _prepared(at: UpdateContext, move: PlannedUpdate, story: Progress, *, automatic: bool) -> Pending:
    """All that disturbs no one: the image, the backup, what is so before. Nothing is changed when it fails."""
    world, paths = at.world, at.paths
    with story.timer.step("pull"):
        world.containers.pull(move.there.name, move.there.digest)
    identity, migration, canary = "", 0, ""
    if move.with_data:
        with story.timer.step("backup"):
            made = take.of_this_moment(at.site, world, paths)
            if why := empty(made):
                raise Refused(f"the backup of this moment is none: {why}", "nothing was changed; ops backup take")
        identity, migration = made.identity, made.migration
        with story.timer.step("canary"), accounts.token(at.site, world) as token:
            canary = smoke_test.prepare(at.site, world, token)
    return Pending(move, world.clock.now(), identity, migration, canary, automatic)


def _tidy(at: UpdateContext, move: PlannedUpdate) -> None:
    """Make room for what this update keeps; what an earlier one kept was kept until now."""
    at.folder.mkdir(mode=0o700, exist_ok=True)
    if move.with_data:
        at.world.files.remove(at.kept)
        for folder in (at.before, at.undone):
            for name in DATA:
                at.world.btrfs.remove(folder / name)


def _all_of(reports: Sequence[Report], moves: Sequence[PlannedUpdate]) -> Report:
    if len(reports) == 1:
        return reports[0]
    facts = {"updates": [dict(each.facts) for each in reports]}
    return Report("update", True, f"updated {names(moves)}", facts, tuple(each.summary for each in reports))
