"""Swap the staged site and the running one, and swap back."""

from __future__ import annotations

from ops.backup.manifest import Manifest
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError, RolledBack, Stranded
from ops.restore.one_repository import SingleRepository, move_out, swap_back_repository
from ops.restore.staging import ASIDE, STAGED, clear, staging_of
from ops.stack import health
from ops.stack.maintenance import MaintenanceMode, end_maintenance
from ops.step_timer import StepTimer
from ops.world import World, postgres

# At a boot the unit gitea-suite runs it, whose start may take three times gitea_start_seconds (600).
_OLD_SITE_SECONDS = 300


def put_in_place(
    site: Site, world: World, paths: HostPaths, chosen: Manifest, maintenance: MaintenanceMode, timer: StepTimer
) -> None:
    """Swap the staged site and the running one; swap back and raise if Gitea does not become healthy."""
    try:
        with timer.step("switch"):
            _switch(world, paths, chosen, maintenance)
        with timer.step("start"):
            maintenance.start()
            _await_gitea(site, world, paths)
    except OpsError as failed:
        raise _put_back(site, world, paths, failed) from failed
    except BaseException:
        _swap_back(world, paths)
        raise


def _switch(world: World, paths: HostPaths, chosen: Manifest, maintenance: MaintenanceMode) -> None:
    """Stop Gitea, then rename the live data and database aside and the staged ones into their place."""
    staging = staging_of(paths)
    world.journal(staging.journal).append({"step": "switch", "identity": chosen.identity, "repository": ""})
    maintenance.stop()
    with world.postgres.session(world.containers.name(paths.project, "postgres"), "postgres") as session:
        _rename_database(session, postgres.USER, ASIDE)
        _rename_database(session, STAGED, postgres.USER)
    world.btrfs.rename(paths.live, staging.aside)
    world.btrfs.rename(staging.data, paths.live)


def _await_gitea(site: Site, world: World, paths: HostPaths) -> None:
    """Wait for Gitea as long as an update does: a backup of an earlier version is migrated, too."""
    health.await_healthy(world, ["gitea"], project=paths.project, seconds=60 * site.update.healthy_minutes)


def _put_back(site: Site, world: World, paths: HostPaths, failed: OpsError) -> OpsError:
    """Swap back and return the error to raise: RolledBack, or Stranded if that failed, too."""
    staging = staging_of(paths)
    try:
        _swap_back(world, paths)
    except OpsError as again:
        return Stranded(
            f"the restored site does not start ({failed.message}), and the old one cannot be put back: {again.message}",
            "look at docker logs of gitea, then run ops restore --resume",
            left_as=f"the data from before is in {staging.aside}, or already back in its place",
        )
    try:
        _await_gitea(site, world, paths)
        clear(world, paths)
    except OpsError as again:
        return Stranded(
            f"the restored site does not start ({failed.message}); the old one is back in its place and does not start either: "
            f"{again.message}",
            "fix the errors in docker logs of gitea, then run systemctl restart gitea-suite",
            left_as=f"the old site is back in its place; the restored data is in {staging.data}",
        )
    return RolledBack(
        f"the restored site does not start, and the old one is back: {failed.message}",
        "restore another backup: ops backup list",
        left_as="the old site runs",
    )


def await_old_site(site: Site, world: World, paths: HostPaths) -> None:
    """Wait until the site that was put back is served; raises Stranded if Gitea does not become healthy."""
    try:
        # No migration: it ran before.
        health.await_healthy(world, ["gitea"], project=paths.project, seconds=_OLD_SITE_SECONDS)
    except OpsError as failed:
        raise Stranded(
            f"a restore was interrupted; the old site is back in its place and does not start: {failed.message}",
            "fix the errors in docker logs of gitea, then run systemctl restart gitea-suite",
            left_as=f"the old site is back in its place; the restored data is in {staging_of(paths).data}",
        ) from failed
    health.await_served(site, world)


def undo_interrupted(world: World, paths: HostPaths) -> bool:
    """Undo the switch of an interrupted restore; return whether there was one."""
    undone = _undo_interrupted_switch(world, paths)
    # Also what an earlier release of this suite kept in Gitea's data.
    move_out(world, paths)
    # A run that was killed in its switch, or just before it, left maintenance mode on.
    end_maintenance(world, paths.project)
    return undone


def _undo_interrupted_switch(world: World, paths: HostPaths) -> bool:
    records = world.journal(staging_of(paths).journal).records()
    if not records:
        return False
    world.tell("a restore was interrupted in its switch: putting the old site back")
    if repository := records[-1]["repository"]:
        swap_back_repository(world, paths, SingleRepository(paths.live, repository))
    else:
        _swap_back(world, paths)
    return True


def _swap_back(world: World, paths: HostPaths) -> None:
    """Undo the switch, however far it came, and start Gitea on the old site."""
    staging = staging_of(paths)
    world.containers.stop(paths.project, "gitea")
    if staging.aside.exists():
        if paths.live.exists():
            world.btrfs.rename(paths.live, staging.data)
        world.btrfs.rename(staging.aside, paths.live)
    with world.postgres.session(world.containers.name(paths.project, "postgres"), "postgres") as session:
        existing = {name for (name,) in session.ask("SELECT datname FROM pg_database")}
        if ASIDE in existing:
            if postgres.USER in existing:
                _rename_database(session, postgres.USER, STAGED)
            _rename_database(session, ASIDE, postgres.USER)
    world.containers.start(paths.project, "gitea")
    world.journal(staging.journal).close()


def _rename_database(session: postgres.Session, name: str, new: str) -> None:
    session.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - ours
    session.ask(f"ALTER DATABASE {name} RENAME TO {new}")
