"""A backup becomes the site again. All of it is fetched and compared beside the running site, and only then put in its place.

Until the switch nothing of the site is touched. The switch itself is renaming: of Gitea's folder and of its database, and
the way back is renaming again. The journal says that a switch is under way; whoever finds it goes back.
"""

from __future__ import annotations

import configparser
import hashlib
import os

from ops.backup import contents, repositories, take
from ops.backup.catalogue import choose, list_backups, passed_over
from ops.backup.manifest import Manifest
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import Degraded, OpsError, Refused, RolledBack
from ops.images.pins import pin_from
from ops.model import Confirm, Report, Secret
from ops.restore.one_repository import restore_repository, write_hooks
from ops.restore.plan import RestorePreconditions, RestoreRequest, blockers, plan_restore
from ops.restore.staging import (
    ASIDE,
    Origin,
    clear_fetched,
    have_beside,
    sources_of,
    staging_of,
    wal_plan_lines,
    wal_source,
)
from ops.restore.switch import put_in_place, undo_interrupted
from ops.stack import accounts
from ops.stack.maintenance import maintenance_mode
from ops.step_timer import StepTimer
from ops.world import World
from ops.world.lock import exclusive
from ops.world.restic import folder_of


def restore(
    site: Site, world: World, *, request: RestoreRequest, confirm: Confirm, paths: HostPaths | None = None
) -> Report:
    """Make the site what a backup says it was.

    Raises Refused when there is no such backup, it does not fit, it is not what its manifest says or no one agrees: then
    nothing was touched. Raises OpsError when it could not be fetched, RolledBack when the restored site does not come up
    and the one before is back, Stranded when that does not come up either, and Degraded when all is done except that the
    administrator of the backup's time cannot sign in with today's password.
    """
    paths = paths or HostPaths()
    with exclusive(paths.lock, world.clock.now(), "ops restore"):
        undo_interrupted(world, paths)
        both = repositories.repositories(site, world, paths)
        backups = list_backups(site, world, both, request.needed)
        chosen = choose(backups, request.identity, request.at)
        facts = _facts(world, paths, chosen, request)
        log = wal_source(site, world, paths, chosen, request)
        # One repository is of no version and no key, and mostly small; restic says when there is no room for it.
        problems = () if request.repository else blockers(chosen, facts, log.plan.base.size if log else 0)
        if problems:
            raise Refused("\n".join(problems), "nothing was touched")
        over = passed_over(backups, chosen, request.identity, request.at)
        lines = (*plan_restore(chosen, facts, request, world.clock.now()), *wal_plan_lines(chosen, log), *over)
        if request.dry_run:
            told = {"identity": chosen.identity, "passed_over": over, "plan": list(lines)}
            return Report("restore", False, f"would restore {chosen.identity}", told, lines)
        confirm(site.name, lines)
        if request.repository:
            return restore_repository(world, paths, both, chosen, request.repository)
        return _restore_site(site, world, paths, chosen, Origin(both, log, facts.picture))


def resume(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Go back to the site as it was when a restore was cut off in its switch; else change nothing."""
    paths = paths or HostPaths()
    with exclusive(paths.lock, world.clock.now(), "ops restore --resume"):
        undone = undo_interrupted(world, paths)
        if not undone and staging_of(paths).data.exists():
            world.tell("a restore was cut off while it fetched: what it had fetched is removed")
            clear_fetched(world, paths)
    summary = (
        f"a restore of {site.name} was cut off: the site is as it was before" if undone else "no restore was cut off"
    )
    return Report("restore", undone, summary)


def keep_secret_key(site: Site, world: World, *, request: RestoreRequest, paths: HostPaths | None = None) -> Report:
    """Write the SECRET_KEY of a backup's Gitea to a file in memory that root alone can read, and say where it is.

    That is where the operator has it from, who gives it to a site made anew: ops secrets set gitea-secret-key. Raises Refused
    when there is no such backup, OpsError when its app.ini has not the key that its manifest tells of.
    """
    paths = paths or HostPaths()
    both = repositories.repositories(site, world, paths)
    chosen = choose(list_backups(site, world, both), request.identity, request.at)
    source, snapshots = sources_of(chosen, both)[0]
    kept = f"{folder_of(source, snapshots['data'])}/gitea/conf/app.ini"
    key = secret_key_from(source.read(snapshots["data"], kept))
    if hashlib.sha256(key.reveal().encode()).hexdigest() != chosen.secret_key:
        raise OpsError(
            f"app.ini of backup {chosen.identity} has not the SECRET_KEY that its manifest tells of",
            "choose another backup: ops backup list",
        )
    path = paths.secrets.parent / f"secret-key-of-{chosen.identity}"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="utf-8") as file:
        file.write(key.reveal())
    facts = {"identity": chosen.identity, "file": str(path)}
    return Report("restore", True, f"the SECRET_KEY of backup {chosen.identity} is in {path} until it boots", facts)


def secret_key_from(ini: str) -> Secret:
    """Return the SECRET_KEY that an app.ini has; raises OpsError when it has none."""
    # What stands before the first section is the app's own, such as its name.
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(f"[DEFAULT]\n{ini}")
    key = parser.get("security", "SECRET_KEY", fallback="").strip('`"')
    if not key:
        raise OpsError("the backup's app.ini has no SECRET_KEY", "choose another backup: ops backup list")
    return Secret(key)


def _restore_site(site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin) -> Report:
    timer, staging = StepTimer(world), staging_of(paths)
    try:
        until, origin = have_beside(site, world, paths, chosen, origin, timer)
    except OpsError as failed:
        if failed.exit_code != OpsError.exit_code:
            raise
        raise RolledBack(f"nothing was restored, the site was not touched: {failed.message}", failed.hint) from failed
    with maintenance_mode(site, world, "A backup is being put in its place.", project=paths.project) as absence:
        began = world.clock.monotonic()
        put_in_place(site, world, paths, chosen, absence, timer)
    world.journal(staging.journal).close()
    paths.disk_seen.touch()
    _let_in(site, world, paths)
    seconds = round(world.clock.monotonic() - began, 2)
    facts = {
        "identity": chosen.identity,
        "away": seconds,
        "durations": timer.seconds,
        "database_until": until,
        "picture": origin.picture is not None,
    }
    newer = f", its database that of {until}" if origin.log and origin.log.newest else ""
    return Report(
        "restore",
        True,
        f"the site is that of {chosen.moment:%Y-%m-%d %H:%M:%S} UTC again{newer}; it was away for {seconds:.1f} s",
        facts,
        (f"kept aside until the next restore: {staging.aside}, database {ASIDE}",),
    )


def _let_in(site: Site, world: World, paths: HostPaths) -> None:
    """The administrator's password may have been rotated since the backup: Secrets Manager's is the one that counts."""
    write_hooks(world, paths)
    try:
        accounts.ensure_admin(site, world)
    except OpsError as failed:
        raise Degraded(
            f"the site is restored, but its administrator cannot sign in: {failed.message}", "ops accounts ensure-admin"
        ) from failed


def _facts(world: World, paths: HostPaths, chosen: Manifest, request: RestoreRequest) -> RestorePreconditions:
    # The image's tag and not what the program says of itself: a Gitea that does not come up is a reason to restore.
    (image,) = [each.image for each in world.containers.services(paths.project) if each.name == "gitea"]
    picture = None if request.full_copy or request.repository else take.snapshot_of(world, paths, chosen)
    return RestorePreconditions(pin_from(image).tag, world.btrfs.free(paths.data), contents.secret_key(paths), picture)
