"""The bucket as it was at a moment. Whoever has taken the host over may overwrite every object, yet end no version of one."""

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
    """What is done to one object: its version of then becomes the newest, or, where there was none then, it is hidden."""

    key: str
    version: str = ""


def rewind(
    site: Site, world: World, *, workspace: Workspace, at: datetime, confirm: Confirm, dry_run: bool = False
) -> Report:
    """Make the bucket show what it showed at a moment, and check the repository that it holds then.

    Nothing is deleted: old versions become the newest once more, and what came later is hidden. Run again, it goes on. Raises
    Refused for a moment that is yet to come, Degraded when the repository of then is damaged, too: choose an earlier one.
    """
    if at > world.clock.now():
        raise Refused(f"{at:%Y-%m-%d %H:%M:%S} UTC is yet to come", "give a moment before things went wrong")
    made = ops_image.ensure(workspace.repository, workspace.cache, world)
    steps = plan_rewind(world.aws_account.history(site.backup.bucket), at)
    lines = in_words(steps, site.backup.bucket, at)
    facts = {"steps": len(steps)}
    if dry_run:
        return Report("backup", False, f"would change {len(steps)} objects", facts, lines)
    if steps:
        confirm(site.name, lines)
    for number, step in enumerate(steps, 1):
        _take(site, world, step)
        if number % 100 == 0:
            world.tell(f"{number} of {len(steps)} objects")
    with operator_access.opened(site, world, workspace=workspace, image=made.reference) as remote:
        _check(remote, f"the bucket is as it was at {at:%Y-%m-%d %H:%M:%S} UTC")
    summary = f"{site.backup.bucket} is as it was at {at:%Y-%m-%d %H:%M:%S} UTC, and its repository is whole"
    return Report("backup", bool(steps), summary, facts, lines)


def _check(remote: Restic, so_far: str) -> None:
    try:
        remote.check()
    except INACCESSIBLE:
        raise
    except Damaged as error:
        raise Degraded(f"{so_far}, and its repository is damaged: {error.message}", "give an earlier moment") from error
    except OpsError as error:
        raise Degraded(
            f"{so_far}, and there is no repository that could be checked: {error.message}",
            "was that before the first backup? Give a later moment",
        ) from error


def plan_rewind(history: Iterable[ObjectVersion], at: datetime) -> tuple[ObjectChange, ...]:
    """Return what makes each object what it was at a moment, to the second.

    Locks of runs that were under way then are hidden, too: those runs are over.
    """
    objects: dict[str, list[ObjectVersion]] = {}
    for each in history:
        objects.setdefault(each.key, []).append(each)
    steps = []
    for key, versions in sorted(objects.items()):
        # What was made and taken away in one second was taken away last.
        past = sorted((each for each in versions if each.modified <= at), key=lambda each: (each.modified, each.marker))
        then = None if not past or past[-1].marker or key.startswith(repositories.LOCKS) else past[-1]
        now = next((each for each in versions if each.latest), None)
        shown = None if now is None or now.marker else now
        if then is None and shown is not None:
            steps.append(ObjectChange(key))
        elif then is not None and not _is_same(then, shown):
            steps.append(ObjectChange(key, then.version))
    return tuple(steps)


def in_words(steps: Iterable[ObjectChange], bucket: str, at: datetime) -> tuple[str, ...]:
    """Return what a plan does, as a person has to read it before agreeing."""
    known = list(steps)
    back = sum(bool(each.version) for each in known)
    return (
        f"{bucket} becomes what it was at {at:%Y-%m-%d %H:%M:%S} UTC",
        f"brought back: {back} objects that were overwritten or taken away since",
        f"hidden: {len(known) - back} objects that came since, backups taken since among them",
        "no version is deleted. Whoever did this must not be able to go on: end the host, or take its role away, first",
    )


def _is_same(then: ObjectVersion, shown: ObjectVersion | None) -> bool:
    return shown is not None and (then.version == shown.version or (then.etag, then.size) == (shown.etag, shown.size))


def _take(site: Site, world: World, step: ObjectChange) -> None:
    if step.version:
        world.aws_account.restore_version(site.backup.bucket, step.key, step.version)
    else:
        world.aws.hide_object(site.backup.bucket, step.key)
