"""Make the bucket show what it showed at a moment. An attacker with the host's role can overwrite objects, but not delete versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ops.backup import operator_access, repositories
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.errors import Degraded, OpsError, Refused
from ops.images import ops_image
from ops.model import Confirm, ObjectVersion, Report
from ops.world import World
from ops.world.restic import INACCESSIBLE, Damaged, Restic


@dataclass(frozen=True)
class ObjectChange:
    """The change of one object: its ``version`` of that time becomes the newest, or "" hides an object that did not exist."""

    key: str
    version: str = ""


def rewind(
    site: Site, world: World, *, workspace: Workspace, at: datetime, confirm: Confirm, dry_run: bool = False
) -> Report:
    """Make the bucket show what it showed at a moment, and check the repository that it holds then.

    Nothing is deleted: old versions become the newest again, and later objects are hidden. A second run completes an
    interrupted one. Raises Refused for a moment in the future, Degraded when the repository of that time is damaged, too: then
    an earlier moment is needed.
    """
    if at > world.clock.now():
        raise Refused(f"{at:%Y-%m-%d %H:%M:%S} UTC is in the future", "give a moment before the damage was done")
    made = ops_image.ensure(workspace.repository, workspace.cache, world)
    steps = plan_rewind(world.aws_account.history(site.backup.bucket), at)
    lines = describe(steps, site.backup.bucket, at)
    facts = {"steps": len(steps)}
    if dry_run:
        return Report("backup", False, f"would change {len(steps)} objects", facts, lines)
    if steps:
        confirm(site.name, lines)
    for number, step in enumerate(steps, 1):
        _apply(site, world, step)
        if number % 100 == 0:
            world.tell(f"{number} of {len(steps)} objects")
    with operator_access.open_repository(site, world, workspace=workspace, image=made.reference) as remote:
        _check(remote, f"the bucket is as it was at {at:%Y-%m-%d %H:%M:%S} UTC")
    summary = f"{site.backup.bucket} is as it was at {at:%Y-%m-%d %H:%M:%S} UTC, and its repository is whole"
    return Report("backup", bool(steps), summary, facts, lines)


def _check(remote: Restic, so_far: str) -> None:
    try:
        remote.check()
    except INACCESSIBLE:
        raise
    except Damaged as error:
        raise Degraded(
            f"its repository is damaged: {error.message}",
            "give an earlier moment: ops backup rewind --at",
            left_as=so_far,
        ) from error
    except OpsError as error:
        raise Degraded(
            f"its repository cannot be checked: {error.message}",
            "give a later moment (ops backup rewind --at) if this one was before the first backup",
            left_as=so_far,
        ) from error


def plan_rewind(history: Iterable[ObjectVersion], at: datetime) -> tuple[ObjectChange, ...]:
    """Return the changes that restore each object to its state at a moment, to the second.

    Locks of the runs of that time are hidden, too: those runs are over.
    """
    objects: dict[str, list[ObjectVersion]] = {}
    for each in history:
        objects.setdefault(each.key, []).append(each)
    changes = (_change(key, versions, at) for key, versions in sorted(objects.items()))
    return tuple(each for each in changes if each)


def describe(steps: Iterable[ObjectChange], bucket: str, at: datetime) -> tuple[str, ...]:
    """Return a plan as the lines that the operator confirms."""
    changes = list(steps)
    back = sum(bool(each.version) for each in changes)
    return (
        f"{bucket} becomes what it was at {at:%Y-%m-%d %H:%M:%S} UTC",
        f"brought back: {back} objects that were overwritten or deleted since",
        f"hidden: {len(changes) - back} objects that were added since, including backups taken since",
        "no version is deleted. First end the host or detach its role, so that an attacker cannot continue",
    )


def _change(key: str, versions: list[ObjectVersion], at: datetime) -> ObjectChange | None:
    then = None if key.startswith(repositories.LOCKS) else _shown_at(versions, at)
    shown = next((each for each in versions if each.latest and not each.marker), None)
    if then is None:
        return ObjectChange(key) if shown else None
    return None if _is_same(then, shown) else ObjectChange(key, then.version)


def _shown_at(versions: list[ObjectVersion], at: datetime) -> ObjectVersion | None:
    """Return the version that the bucket showed at a moment, None when it showed none."""
    # An object that was written and deleted within one second was deleted last.
    past = sorted((each for each in versions if each.modified <= at), key=lambda each: (each.modified, each.marker))
    return past[-1] if past and not past[-1].marker else None


def _is_same(then: ObjectVersion, shown: ObjectVersion | None) -> bool:
    return shown is not None and (then.version == shown.version or (then.etag, then.size) == (shown.etag, shown.size))


def _apply(site: Site, world: World, step: ObjectChange) -> None:
    if step.version:
        world.aws_account.restore_version(site.backup.bucket, step.key, step.version)
    else:
        world.aws.hide_object(site.backup.bucket, step.key)
