"""The update plan: which service moves from which image to which, what blocks it, and its consequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ops.config import known_settings
from ops.config.schema import Site
from ops.errors import OpsError, Refused, Unavailable
from ops.images import versions
from ops.images.pins import WITH_DATA, Pin
from ops.images.versions import VersionStep
from ops.model import in_bytes
from ops.update import available
from ops.update import policy as update_policy
from ops.update.available import AvailableUpdate
from ops.update.policy import Approval

# The space that one more image needs; a quarter of it is what a migration may write beyond the database's own size.
_IMAGE_BYTES = 1 << 30
_UNCHANGED = "nothing was changed"


@dataclass(frozen=True)
class UpdateRequest:
    """What to update: a service (else every service whose step an operator need not name), to a tag (else the newest).

    ``automatic`` applies what the policy allows, if the window is open. ``dry_run`` only returns the plan.
    ``without_drill`` accepts backups that no recent restore drill has tested. ``accept_loss`` are tables and columns that
    the new version may empty or remove.
    """

    service: str = ""
    to: str = ""
    automatic: bool = False
    dry_run: bool = False
    without_drill: bool = False
    accept_loss: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedUpdate:
    """One step of one service, from its current pin to the target."""

    service: str
    current: Pin
    target: Pin
    step: VersionStep

    @property
    def with_data(self) -> bool:
        """Whether the new version may change data, so that a rollback needs a snapshot."""
        return self.service in WITH_DATA

    @property
    def needs_pg_upgrade(self) -> bool:
        """Whether the new version cannot read the database's files and gets a copy of the database."""
        return self.service == "postgres" and self.step is VersionStep.MAJOR

    def __str__(self) -> str:
        return f"{self.service} {self.current.tag} -> {self.target.tag} ({self.step.name.lower()})"


@dataclass(frozen=True)
class UpdatePreconditions:
    """The state before an update: failing probes, free bytes, the database's size in bytes.

    ``can_snapshot`` tells whether the data lies on btrfs. ``drill_overdue`` says why the backups do not count as tested, ""
    if they do, ``drill_remedy`` the command against that. ``foreign_objects`` are databases and roles other than Gitea's.
    """

    failing: tuple[str, ...]
    free_data: int
    free_images: int
    database: int
    can_snapshot: bool
    drill_overdue: str
    drill_remedy: str = "ops restore --drill"
    foreign_objects: tuple[str, ...] = ()


def plan_updates(found: Iterable[AvailableUpdate], request: UpdateRequest, site: Site) -> tuple[PlannedUpdate, ...]:
    """Return the requested updates in their order; raises Refused for one that the request may not start.

    Without a service, an operator gets all steps except major ones and those of held services. If a newer major version is
    out, the newest release of the current one is planned. A guided step needs its version in the request.
    """
    by_service = {each.service: each for each in available.in_order(found)}
    if request.service and request.service not in by_service:
        raise Refused(
            f"there is no service {request.service}",
            f"give one of: {', '.join(sorted(by_service))}",
            left_as=_UNCHANGED,
        )
    requested = [by_service[request.service]] if request.service else list(by_service.values())
    updates = [_planned_update(each, request, site) for each in requested]
    return tuple(each for each in updates if each and each.step)


def blockers(
    updates: Sequence[PlannedUpdate], preconditions: UpdatePreconditions, request: UpdateRequest
) -> tuple[str, ...]:
    """Return each reason not to start, with its remedy."""
    found = [f"the site is not healthy: {each}" for each in preconditions.failing]
    needed = _IMAGE_BYTES * len(updates)
    if preconditions.free_images < needed:
        found.append(
            f"{in_bytes(preconditions.free_images)} are free for images, {in_bytes(needed)} are needed: "
            "docker image prune --all"
        )
    if any(each.with_data for each in updates):
        found += _data_blockers(updates, preconditions)
        if preconditions.drill_overdue and not request.without_drill:
            urgent = "" if request.automatic else "; if the update cannot wait for that: --without-drill"
            found.append(f"{preconditions.drill_overdue}: {preconditions.drill_remedy}{urgent}")
    return tuple(found)


def _data_blockers(updates: Sequence[PlannedUpdate], preconditions: UpdatePreconditions) -> list[str]:
    """Return the blockers that concern data: no btrfs, too little space, databases that an upgrade would not copy."""
    found = []
    if not preconditions.can_snapshot:
        found.append(
            "Gitea's data and database are not on btrfs, so a rollback would not be possible: set host.data_device"
        )
    pg_upgrade = any(each.needs_pg_upgrade for each in updates)
    size = preconditions.database
    needed = 2 * size + _IMAGE_BYTES if pg_upgrade else size + _IMAGE_BYTES // 4
    if preconditions.free_data < needed:
        what = "a copy of the database" if pg_upgrade else "a migration"
        found.append(
            f"{in_bytes(preconditions.free_data)} are free on the data disk, {what} may need {in_bytes(needed)}: "
            "enlarge host.data_gib and deploy"
        )
    if pg_upgrade and preconditions.foreign_objects:
        found.append(
            "PostgreSQL has objects other than Gitea's, which the new version would not get: "
            f"{', '.join(preconditions.foreign_objects)}: move them to another server"
        )
    return found


def consequences(updates: Sequence[PlannedUpdate], preconditions: UpdatePreconditions, site: Site) -> tuple[str, ...]:
    """Return the consequences that an operator must know before confirming."""
    lines = []
    if any(each.with_data for each in updates):
        lines.append("before: a new backup; if the new version is not healthy, image and data are rolled back together")
        lines.append("unavailable: Gitea, from its stop until the new version answers; a migration takes its time")
        lines += [
            f"copied: the database of {in_bytes(preconditions.database)}, from {each.current.tag} to {each.target.tag}; it is "
            "compared to the last row before it replaces the old one; Gitea is unavailable for all of that time"
            for each in updates
            if each.needs_pg_upgrade
        ]
        if preconditions.drill_overdue:
            lines.append(f"warning: {preconditions.drill_overdue} ({preconditions.drill_remedy})")
    for each in updates:
        if each.service == "gitea" and each.current.tag != each.target.tag:
            lines += known_settings.warnings(site.gitea.settings, each.target.release.numbers)
    lines.append(f"watched: for {site.update.watch_seconds} s each, before the new version is kept")
    return tuple(lines)


def documents(updates: Iterable[PlannedUpdate]) -> dict[str, Any]:
    """Return updates as in the JSON output."""
    return {
        "moves": [
            {"service": each.service, "from": str(each.current), "to": str(each.target), "step": each.step.name.lower()}
            for each in updates
        ]
    }


def names(updates: Iterable[PlannedUpdate]) -> str:
    """Return the names of the services, separated by commas."""
    return ", ".join(each.service for each in updates)


def _planned_update(candidate: AvailableUpdate, request: UpdateRequest, site: Site) -> PlannedUpdate | None:
    if request.automatic:
        tag = available.automatic_tag(candidate, site)
        return _update_to(candidate, tag) if tag else None
    if not candidate.lookup_error:
        return _with_approval(candidate, request, site)
    if request.service:
        raise _lookup_failure(candidate)
    return None


def _lookup_failure(candidate: AvailableUpdate) -> OpsError:
    """Return the error for a requested service whose registry gave no answer."""
    if candidate.unreachable:
        return Unavailable(candidate.lookup_error, "wait a few minutes, then run ops update again", left_as=_UNCHANGED)
    return Refused(
        candidate.lookup_error, "check the image in compose/images.env on the operator's machine", left_as=_UNCHANGED
    )


def _with_approval(candidate: AvailableUpdate, request: UpdateRequest, site: Site) -> PlannedUpdate | None:
    """Return the step if an operator's request suffices; raises Refused if the request names a service for which it does not."""
    tag = _requested_tag(candidate, request, site)
    update = _update_to(candidate, tag)
    needed = available.approval(candidate, update.step, site)
    if needed is Approval.HELD or (needed is Approval.GUIDED and not request.to):
        if request.service:
            raise Refused(
                available.approval_blocker(candidate.service, tag, needed),
                _remedy(candidate, tag, needed),
                left_as=_UNCHANGED,
            )
        return None
    return update if request.service or update.step < VersionStep.MAJOR else None


def _remedy(candidate: AvailableUpdate, tag: str, needed: Approval) -> str:
    if needed is Approval.HELD:
        return f"remove {candidate.service} from update.hold in the site file, then run ops deploy"
    return f"run ops update {candidate.service} --to {tag}"


def _requested_tag(candidate: AvailableUpdate, request: UpdateRequest, site: Site) -> str:
    if request.to:
        versions.require_upgrade(candidate.service, candidate.current.release, request.to)
        return request.to
    tag, step = candidate.newest
    policy = site.update.policy(candidate.service)
    guided = update_policy.approval_for(candidate.service, step, policy) is Approval.GUIDED
    return tag if request.service and not guided else candidate.within_major or tag


def _update_to(candidate: AvailableUpdate, tag: str) -> PlannedUpdate:
    target = versions.release_from(tag)
    assert target
    step = versions.step_between(candidate.service, candidate.current.release, target)
    if step is VersionStep.NONE and candidate.rebuilt:
        step = VersionStep.DIGEST
    digest = candidate.digest if tag == candidate.current.tag else ""
    return PlannedUpdate(candidate.service, candidate.current, Pin(candidate.current.name, tag, digest), step)
