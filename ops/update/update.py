"""An update either succeeds or leaves the old version running. A journal on the data disk records its progress.

The new image is pulled and a backup is taken while the site runs. Then Gitea is stopped, snapshots of data and database are
made, and the new version starts on them. It is kept if it is healthy; otherwise image and data are rolled back together. The
next run that finds an open journal finishes the update or undoes it, depending on the state that it finds.
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
from ops.step_timer import StepTimer
from ops.update import available, data_check, pg_upgrade, policy, smoke_test, steps
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
from ops.update.outcome import commit, undo
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
from ops.update.rollback import expired_update, remove_expired, resume_interrupted
from ops.world import World
from ops.world.lock import exclusive

_UNCHANGED = "nothing was changed"
_NOT_DUE = Report("update", False, "no update is due")


def update(
    site: Site,
    world: World,
    *,
    request: UpdateRequest,
    confirm: Confirm,
    paths: HostPaths | None = None,
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Update services, each completely or not at all.

    Raises Refused if a blocker exists or the operator does not confirm, Unavailable if an image cannot be pulled: then
    nothing was changed. Raises RolledBack if a new version was not healthy and the old state is back, Stranded if the old
    version is not healthy either, Degraded if the update is done but not recorded, Locked while another operation runs.
    """
    at = UpdateContext(site, world, paths or HostPaths(), compose)
    now = world.clock.now()
    if request.automatic and not _has_work(at, now):
        return _NOT_DUE
    with exclusive(at.paths.lock, now, "ops update"):
        if resume_interrupted(at) is None and request.automatic:
            remove_expired(at, now)
        if request.automatic and not _is_due(at, now):
            return _NOT_DUE
        return _plan_and_apply(at, request, confirm, now)


def _plan_and_apply(at: UpdateContext, request: UpdateRequest, confirm: Confirm, now: datetime) -> Report:
    updates = _requested_updates(at, request, now)
    if not updates:
        return Report("update", False, "there is nothing to update")
    preconditions = _preconditions(at)
    if problems := blockers(updates, preconditions, request):
        raise Refused("\n".join(problems), "fix each of these problems, then run ops update again", left_as=_UNCHANGED)
    lines = (*map(str, updates), *consequences(updates, preconditions, at.site))
    if request.dry_run:
        facts = {**documents(updates), "plan": list(lines)}
        return Report("update", False, f"would update {names(updates)}", facts, lines)
    confirm(at.site.name, lines)
    return _combined_report(_apply_each(at, updates, request), updates)


def backup_fault(made: Manifest) -> str:
    """Return why a new backup does not count as one, "" if it does (go-gitea/gitea issue 34067: 22 bytes, exit 0)."""
    for name, part in made.parts.items():
        if part.size <= 0:
            return f"its {name} is empty"
    if made.rows.get("user", 0) < 1:
        return "it has no user"
    if made.rows.get("repository", 0) and not made.repositories:
        return f"it has none of {made.rows['repository']} repositories"
    return ""


def _preconditions(at: UpdateContext) -> UpdatePreconditions:
    paths, world = at.paths, at.world
    with world.postgres.session(world.containers.name(paths.project, "postgres")) as session:
        ((size,),) = session.ask("SELECT pg_database_size(current_database())")
        foreign_objects = pg_upgrade.foreign_objects(session)
    return UpdatePreconditions(
        failing=smoke_test.failing_probes(at.site, world, project=paths.project),
        free_data=world.btrfs.free(paths.data),
        free_images=world.btrfs.free(at.compose),
        database=int(size),
        can_snapshot=all(world.btrfs.can_snapshot(paths.data / name) for name in DATA),
        drill_overdue=catalogue.drill_overdue(at.site, world),
        drill_remedy=catalogue.drill_remedy(at.site, world),
        foreign_objects=foreign_objects,
    )


def _has_work(at: UpdateContext, now: datetime) -> bool:
    """Whether the timer has to take the lock: for an interrupted update, a due one, or snapshots that are too old."""
    return bool(at.journal.records() or _is_due(at, now) or expired_update(at, now))


def _is_due(at: UpdateContext, now: datetime) -> bool:
    path = at.last_automatic
    last = datetime.fromisoformat(path.read_text(encoding="utf-8")) if path.exists() else None
    return policy.is_due(policy.window_from(at.site.update.window, at.site.timezone), last, now)


def _requested_updates(at: UpdateContext, request: UpdateRequest, now: datetime) -> tuple[PlannedUpdate, ...]:
    """Return the planned updates with the digests of their tags; raises Unavailable if no registry answers."""
    found = available.gather(at.site, at.world, available.current_pins(at.compose), now)
    planned = plan_updates(found, request, at.site)
    if request.automatic:
        planned = tuple(each for each in planned if not _was_taken_back(at, each))
    updates = tuple(_with_digest(at, each) for each in planned)
    errors = [f"{each.service}: {each.lookup_error}" for each in found if each.lookup_error]
    if request.automatic:
        _record_start(at, now, updates, errors)
    elif errors and not updates:
        raise Unavailable("; ".join(errors), "wait a few minutes, then run ops update again", left_as=_UNCHANGED)
    return updates


def _record_start(at: UpdateContext, now: datetime, updates: Sequence[PlannedUpdate], errors: Sequence[str]) -> None:
    """Record that automatic updates started, unless a registry is to be asked again while the window is open."""
    if updates or not errors:
        at.folder.mkdir(mode=0o700, exist_ok=True)
        at.world.files.write(at.last_automatic, now.isoformat().encode())


def _apply_each(at: UpdateContext, updates: Sequence[PlannedUpdate], request: UpdateRequest) -> list[Report]:
    """Apply each update. An automatic one that fails does not stop the others; its error is raised at the end."""
    reports: list[Report] = []
    failures: list[OpsError] = []
    for each in updates:
        try:
            reports.append(_apply(at, each, request))
        except (RolledBack, Refused, Unavailable) as failed:
            if not request.automatic:
                raise
            at.world.tell(f"{each}: {failed.message}")
            failures.append(failed)
    if failures:
        first = failures[0]
        first.message = "; ".join([*(each.message for each in failures), *(each.summary for each in reports)])
        raise first
    return reports


def _was_taken_back(at: UpdateContext, planned: PlannedUpdate) -> bool:
    """Whether the last attempt at a release was rolled back, by itself or by an operator: the timer does not try it again."""
    outcomes = [
        entry["outcome"]
        for entry in read_entries(at)
        if entry["service"] == planned.service and pins.pin_from(entry["to"]).tag == planned.target.tag
    ]
    if outcomes[-1:] in (["rolled back"], ["went back"]):
        at.world.tell(f"{planned}: the last attempt was rolled back; ops update {planned.service} tries it again")
        return True
    return False


def _apply(at: UpdateContext, planned: PlannedUpdate, request: UpdateRequest) -> Report:
    """Apply one update, from the pull of the image to the commit of its pin."""
    with MaintenanceWindow(at) as window:
        progress = Progress(StepTimer(at.world), window)
        try:
            pending = _prepare(at, planned, progress, request)
        except OpsError as error:
            if error.exit_code == 1:
                raise Refused(
                    f"{planned} cannot start: {error.message}",
                    error.hint or "fix the cause, then run ops update again",
                    left_as=error.left_as or _UNCHANGED,
                ) from error
            raise
        _make_room(at, planned)
        at.journal.append(begin_record(pending))
        try:
            steps.run_steps(Run(at, pending, progress))
        except OpsError as failed:
            raise undo(at, pending_from(at.journal.records()) or pending, progress, failed) from failed
        except BaseException:
            undo(at, pending_from(at.journal.records()) or pending, progress, "it was interrupted")
            raise
        return commit(at, pending, progress, planned.target, "updated")


def _with_digest(at: UpdateContext, planned: PlannedUpdate) -> PlannedUpdate:
    """Add the tag's current digest: the operator confirms this image, and it is used even if the tag moves later."""
    try:
        digest = planned.target.digest or at.world.registry.digest(planned.target.image)
    except OpsError as error:
        if error.exit_code != OpsError.exit_code:
            raise
        raise Refused(
            error.message, "run ops update --check and choose an available version", left_as=_UNCHANGED
        ) from error
    return replace(planned, target=replace(planned.target, digest=digest))


def _prepare(at: UpdateContext, planned: PlannedUpdate, progress: Progress, request: UpdateRequest) -> Pending:
    """Do all that does not interrupt the service: pull the image, take a backup, record the state before the update."""
    world, paths = at.world, at.paths
    with progress.timer.step("pull"):
        world.containers.pull(planned.target.name, planned.target.digest)
    identity, migration, canary = "", 0, ""
    if planned.with_data:
        with progress.timer.step("backup"):
            made = take.of_this_moment(at.site, world, paths)
            if why := backup_fault(made):
                raise Refused(f"the new backup does not count as one: {why}", "run ops backup take", left_as=_UNCHANGED)
        identity, migration = made.identity, made.migration
        with progress.timer.step("canary"):
            canary = data_check.prepare(at, planned, identity, request.accept_loss)
    return Pending(planned, world.clock.now(), identity, migration, canary, request.automatic)


def _make_room(at: UpdateContext, planned: PlannedUpdate) -> None:
    """Remove the snapshots of the previous update, which this one replaces with its own."""
    at.folder.mkdir(mode=0o700, exist_ok=True)
    if planned.with_data:
        at.world.files.remove(at.rollback_record)
        for folder in (at.snapshots, at.set_aside):
            for name in DATA:
                at.world.btrfs.remove(folder / name)


def _combined_report(reports: Sequence[Report], updates: Sequence[PlannedUpdate]) -> Report:
    if len(reports) == 1:
        return reports[0]
    facts = {"updates": [dict(each.facts) for each in reports]}
    return Report("update", True, f"updated {names(updates)}", facts, tuple(each.summary for each in reports))
