"""Swap the staged site and the running one, and swap back."""

from __future__ import annotations

from ops.backup.manifest import Manifest
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, RolledBack, Stranded
from ops.restore.one_repository import Single, go_back_to
from ops.restore.staging import ASIDE, STAGED, clear, staging_of
from ops.stack import health
from ops.stack.maintenance import MaintenanceMode, end_maintenance
from ops.step_timer import StepTimer
from ops.world import World, postgres


def put_in_place(
    site: Site, world: World, paths: HostPaths, chosen: Manifest, absence: MaintenanceMode, timer: StepTimer
) -> None:
    """Swap the staged site and the running one; swap back when Gitea does not become healthy."""
    try:
        with timer.step("switch"):
            _switch(world, paths, chosen, absence)
        with timer.step("start"):
            absence.start()
            _await_gitea(site, world, paths)
    except OpsError as failed:
        absence.free_ssh_port()
        raise _gone_back(site, world, paths, failed) from failed
    except BaseException:
        absence.free_ssh_port()
        _go_back(world, paths)
        raise


def _switch(world: World, paths: HostPaths, chosen: Manifest, absence: MaintenanceMode) -> None:
    """Stop Gitea and put what was fetched in the place of what is there."""
    staging = staging_of(paths)
    world.journal(staging.journal).append({"step": "switch", "identity": chosen.identity, "repository": ""})
    absence.stop()
    with world.postgres.session(world.containers.name(paths.project, "postgres"), "postgres") as session:
        _rename_database(session, postgres.USER, ASIDE)
        _rename_database(session, STAGED, postgres.USER)
    world.btrfs.rename(paths.live, staging.aside)
    world.btrfs.rename(staging.data, paths.live)


def _await_gitea(site: Site, world: World, paths: HostPaths) -> None:
    """A backup of an earlier version migrates as an update does."""
    health.await_healthy(world, ["gitea"], project=paths.project, seconds=60 * site.update.healthy_minutes)


def _gone_back(site: Site, world: World, paths: HostPaths, failed: OpsError) -> OpsError:
    """Put back what was there, and return how that went."""
    staging = staging_of(paths)
    try:
        _go_back(world, paths)
    except OpsError as again:
        return Stranded(
            f"the restored site does not come up ({failed.message}), and the one before cannot be put back: {again.message}",
            f"look at the logs of gitea; the data before is in {staging.aside}, or in its place; then: ops restore --resume",
        )
    try:
        _await_gitea(site, world, paths)
        clear(world, paths)
    except OpsError as again:
        return Stranded(
            f"the restored site does not come up ({failed.message}); the one before is in its place again, and does not either: "
            f"{again.message}",
            f"mend what the logs of gitea name, then: systemctl restart gitea-suite; what was restored is in {staging.data}",
        )
    return RolledBack(
        f"the restored site does not come up, and the one before is back: {failed.message}",
        "restore another backup: ops backup list",
    )


def undo_interrupted(world: World, paths: HostPaths) -> bool:
    """Go back to the site before an interrupted restore; return whether there was one."""
    undone = _undone(world, paths)
    # By a run that was killed in its switch, or just before it.
    end_maintenance(world, paths.project)
    return undone


def _undone(world: World, paths: HostPaths) -> bool:
    records = world.journal(staging_of(paths).journal).records()
    if not records:
        return False
    world.tell("a restore was cut off in its switch: going back to what was there before")
    if repository := records[-1]["repository"]:
        go_back_to(world, paths, Single(paths.live, repository))
    else:
        _go_back(world, paths)
    return True


def _go_back(world: World, paths: HostPaths) -> None:
    """Whatever of a switch was done, undo it, and start Gitea on what was there before."""
    staging = staging_of(paths)
    world.containers.stop(paths.project, "gitea")
    if staging.aside.exists():
        if paths.live.exists():
            world.btrfs.rename(paths.live, staging.data)
        world.btrfs.rename(staging.aside, paths.live)
    with world.postgres.session(world.containers.name(paths.project, "postgres"), "postgres") as session:
        there = {name for (name,) in session.ask("SELECT datname FROM pg_database")}
        if ASIDE in there:
            if postgres.USER in there:
                _rename_database(session, postgres.USER, STAGED)
            _rename_database(session, ASIDE, postgres.USER)
    world.containers.start(paths.project, "gitea")
    world.journal(staging.journal).close()


def _rename_database(session: postgres.Session, name: str, new: str) -> None:
    session.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - ours
    session.ask(f"ALTER DATABASE {name} RENAME TO {new}")
