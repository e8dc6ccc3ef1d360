"""Restore a backup: fetch all of it beside the running site, compare it with its manifest, then switch.

Nothing of the site changes before the switch. The switch renames Gitea's folder and its database, and undoing it renames
them back. A journal records that a switch is in progress; the next run that finds it undoes the switch.
"""

from __future__ import annotations

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
from ops.restore import rights
from ops.restore.one_repository import require_repository, restore_repository, write_hooks, write_keys
from ops.restore.plan import RestorePreconditions, RestoreRequest, blockers, plan_restore
from ops.restore.staging import (
    ASIDE,
    Origin,
    clear_fetched,
    sources_of,
    stage_backup,
    staging_of,
    wal_plan_lines,
    wal_source,
)
from ops.restore.switch import await_old_site, put_in_place, undo_interrupted
from ops.stack import accounts, health, secrets_in_use
from ops.stack.maintenance import maintenance_mode
from ops.step_timer import StepTimer
from ops.world import World
from ops.world.lock import exclusive
from ops.world.restic import folder_of


def restore(
    site: Site, world: World, *, request: RestoreRequest, confirm: Confirm, paths: HostPaths | None = None
) -> Report:
    """Restore the site, or one repository, from a backup.

    Raises Refused if there is no such backup, a blocker exists, it differs from its manifest or the operator does not
    confirm: then nothing was changed. Raises RolledBack if the backup cannot be fetched, or the restored site does not start
    and the old one is back; Stranded if that does not start either; Degraded if all is restored, but the backup's
    administrator cannot sign in with the current password.
    """
    paths = paths or HostPaths()
    with exclusive(paths.lock, world.clock.now(), "ops restore"):
        undo_interrupted(world, paths)
        both = repositories.repositories(site, world, paths)
        backups = list_backups(site, world, both, request.needed)
        chosen = choose(backups, request.identity, request.at)
        if request.repository:
            require_repository(paths, chosen, request.repository)
        preconditions = _preconditions(world, paths, chosen, request)
        wal = wal_source(site, world, paths, chosen, request)
        # One repository depends on no version and no key, and it is small; restic reports a full disk.
        problems = () if request.repository else blockers(chosen, preconditions, wal.plan.base.size if wal else 0)
        if problems:
            raise Refused(
                "\n".join(problems),
                "fix each of these problems, then run ops restore again",
                left_as="nothing was changed",
            )
        skipped = passed_over(backups, chosen, request.identity, request.at)
        lines = (
            *plan_restore(chosen, preconditions, request, world.clock.now()),
            *wal_plan_lines(chosen, wal),
            *skipped,
        )
        if request.dry_run:
            facts = {"identity": chosen.identity, "passed_over": skipped, "plan": list(lines)}
            return Report("restore", False, f"would restore {chosen.identity}", facts, lines)
        confirm(site.name, lines)
        if request.repository:
            return restore_repository(site, world, paths, both, chosen, request.repository)
        return _restore_site(site, world, paths, chosen, Origin(both, wal, preconditions.snapshot))


def resume(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Undo the switch of an interrupted restore and remove what it fetched; without one, change nothing.

    Returns when the site is served again. Raises Stranded if Gitea does not become healthy.
    """
    paths = paths or HostPaths()
    with exclusive(paths.lock, world.clock.now(), "ops restore --resume"):
        undone = undo_interrupted(world, paths)
        if undone:
            await_old_site(site, world, paths)
        elif staging_of(paths).data.exists():
            world.tell("a restore was interrupted before its switch: removing the fetched data")
            clear_fetched(world, paths)
    summary = (
        f"a restore of {site.name} was interrupted: the site is as it was before"
        if undone
        else "no restore was interrupted"
    )
    return Report("restore", undone, summary)


def keep_secret_key(site: Site, world: World, *, request: RestoreRequest, paths: HostPaths | None = None) -> Report:
    """Write the SECRET_KEY of a backup to a file in memory that only root can read, and return its path.

    An operator copies it from there to a new site: ops secrets set gitea-secret-key. Raises Refused if there is no such
    backup, OpsError if the key in its app.ini does not match its manifest.
    """
    paths = paths or HostPaths()
    both = repositories.repositories(site, world, paths)
    chosen = choose(list_backups(site, world, both), request.identity, request.at)
    source, snapshots = sources_of(chosen, both)[0]
    app_ini = f"{folder_of(source, snapshots['data'])}/{secrets_in_use.INI}"
    key = secret_key_from(source.read(snapshots["data"], app_ini))
    if hashlib.sha256(key.reveal().encode()).hexdigest() != chosen.secret_key:
        raise OpsError(
            f"the SECRET_KEY in app.ini of backup {chosen.identity} does not match its manifest",
            "choose another backup: ops backup list",
        )
    path = paths.secrets.parent / f"secret-key-of-{chosen.identity}"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="utf-8") as file:
        file.write(key.reveal())
    facts = {"identity": chosen.identity, "file": str(path)}
    return Report(
        "restore", True, f"the SECRET_KEY of backup {chosen.identity} is in {path} until the host reboots", facts
    )


def secret_key_from(ini: str) -> Secret:
    """Return the SECRET_KEY of an app.ini; raises OpsError if it has none."""
    key = secrets_in_use.parse(ini).get(("security", "SECRET_KEY"), "")
    if not key:
        raise OpsError("the backup's app.ini has no SECRET_KEY", "choose another backup: ops backup list")
    return Secret(key)


def _restore_site(site: Site, world: World, paths: HostPaths, chosen: Manifest, origin: Origin) -> Report:
    timer, staging = StepTimer(world), staging_of(paths)
    try:
        until, origin = stage_backup(site, world, paths, chosen, origin, timer)
    except OpsError as failed:
        if failed.exit_code != OpsError.exit_code:
            raise
        raise RolledBack(
            f"nothing was restored, the site was not changed: {failed.message}",
            failed.hint or "fix the cause, then run ops restore again",
            left_as=failed.left_as or "the site was not changed",
        ) from failed
    with maintenance_mode(site, world, "A backup is being restored.", project=paths.project) as maintenance:
        began = world.clock.monotonic()
        put_in_place(site, world, paths, chosen, maintenance, timer)
    world.journal(staging.journal).close()
    paths.disk_seen.touch()
    health.await_served(site, world)
    _finish(site, world, paths)
    seconds = round(world.clock.monotonic() - began, 2)
    facts = {
        "identity": chosen.identity,
        "away": seconds,
        "durations": timer.seconds,
        "database_until": until,
        "picture": origin.snapshot is not None,
        "not_restored": list(dict.fromkeys(origin.left_out)),
    }
    newer = f", with the database of {until}" if origin.wal and origin.wal.newest else ""
    return Report(
        "restore",
        True,
        f"the site is restored to {chosen.moment:%Y-%m-%d %H:%M:%S} UTC{newer}; it was unavailable for {seconds:.1f} s",
        facts,
        (
            f"kept aside until the next restore: {staging.aside}, database {ASIDE}",
            *rights.lines_of(origin.left_out),
        ),
    )


def _finish(site: Site, world: World, paths: HostPaths) -> None:
    """Write hooks and ssh keys, set the administrator's password, which may have been rotated since the backup, check secrets."""
    write_hooks(world, paths)
    write_keys(world, paths)
    try:
        accounts.ensure_admin(site, world)
    except OpsError as failed:
        raise Degraded(
            f"the site is restored, but its administrator cannot sign in: {failed.message}",
            "run ops accounts ensure-admin",
            left_as="the restored site runs",
        ) from failed
    if missing := secrets_in_use.not_in_use(paths.live, paths.secrets):
        raise Degraded(
            f"the site is restored, but Gitea runs without these secrets of it: {', '.join(missing)}",
            secrets_in_use.REMEDY,
            left_as="the restored site runs, and what it encrypts now cannot be read with the right secret",
        )


def _preconditions(world: World, paths: HostPaths, chosen: Manifest, request: RestoreRequest) -> RestorePreconditions:
    # From the image's tag, because a Gitea that does not start is a reason to restore.
    (image,) = [each.image for each in world.containers.services(paths.project) if each.name == "gitea"]
    snapshot = None if request.full_copy or request.repository else take.snapshot_of(world, paths, chosen)
    return RestorePreconditions(pin_from(image).tag, world.btrfs.free(paths.data), contents.secret_key(paths), snapshot)
