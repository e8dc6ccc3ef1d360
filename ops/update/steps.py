"""The steps of an update, from the stop of the old version to the check of the new one, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ops.config.compose_files import SETTINGS
from ops.config.paths import LOCALHOST
from ops.errors import Locked, OpsError
from ops.images import pins
from ops.images.pins import Pin
from ops.stack import apply_secrets, health
from ops.stack.handover import HANDOVER_DRAIN_SECONDS, NETWORK_OWNER, REPLACEABLE, HandoverStack, hand_over, image_from
from ops.update import available, data_check, pg_upgrade, smoke_test
from ops.update.journal import DATA, Pending, Progress, Run, UpdateContext, needs_data
from ops.update.plan import PlannedUpdate
from ops.world.containers import Service

# nginx resolves Gitea's address once a second; if it takes longer than this, the check of the new version reports it.
_REACHABLE_SECONDS = 10.0
# The time to stop for a version that hangs and whose writes are discarded.
_STOP_SECONDS = 5
# The longest time that one nginx may take to replace another, including its drain.
_HANDOVER_SECONDS = HANDOVER_DRAIN_SECONDS + 120.0
# Asks Gitea directly, because nginx answers for it during maintenance mode.
_GITEA_HEALTH = (
    "curl",
    "--fail",
    "--silent",
    "--max-time",
    "2",
    "--output",
    "/dev/null",
    "http://127.0.0.1:3000/api/healthz",
)

StepFunction = Callable[[Run], None]


def run_steps(run: Run) -> None:
    """Run every step of an update; raises OpsError with the reason when one fails."""
    for name, function in _steps(run.pending):
        run_step(run, name, function)


def up(run: Run) -> None:
    """Start the new version and wait until it answers; raises OpsError when it does not."""
    at, progress, planned = run.at, run.progress, run.pending.planned
    _start_clock(progress, planned)
    if planned.service == "postgres":
        _run_postgres(at)
    _start_service(at, progress, planned)


def check_new_version(run: Run) -> None:
    """Test the new version and watch it; raises OpsError with each finding, DataLostError if it lost data."""
    at, planned = run.at, run.pending.planned
    findings = _certbot(at) if planned.service == "certbot" else _test_and_watch(run)
    if findings:
        raise OpsError("; ".join(findings))


def run_gitea(at: UpdateContext) -> None:
    """Run Gitea by the present files of the stack, and wait until it is healthy.

    Raises OpsError when it does not become healthy within ``healthy_minutes``, or ends.
    """
    _run_by_pin(at, "gitea")
    _await_healthy(at, "gitea")


def run_step(run: Run, name: str, function: StepFunction) -> None:
    """Record one step in the journal, then run it."""
    run.at.journal.append({"step": name, "at": run.at.world.clock.now().isoformat()})
    with run.progress.timer.step(name):
        function(run)


def start_stack(at: UpdateContext) -> None:
    """Start the whole stack, which the check of a new version needs: after a boot nothing runs yet."""
    _compose(at, "the stack", "up", "--detach", "--pull", "never")
    others = health.services_of(at.compose) - {"gitea"}
    health.await_healthy(at.world, others, project=at.paths.project, seconds=60 * at.site.update.healthy_minutes)


def go_back(at: UpdateContext, pending: Pending, progress: Progress) -> None:
    """Put the old image back, and the data if ``with_data``, then wait until the old version is healthy.

    An interrupted run may have done parts of this already.
    """
    planned = pending.planned
    now = at.world.clock.now().isoformat()
    if planned.needs_pg_upgrade:
        # If the copy has filled the disk, every later step would fail.
        pg_upgrade.clear(at)
    at.journal.append({"step": "undo", "with_data": bool(pending.with_data), "why": pending.why, "at": now})
    with progress.timer.step("back"):
        _start_clock(progress, planned)
        if planned.with_data:
            _stop_new_version(at, pending, progress)
        if pending.with_data:
            at.world.containers.stop(at.paths.project, "postgres")
            for name in DATA:
                _put_back_snapshot(at, name)
        _write_pin(at, planned.service, planned.current)
        if pending.with_data or planned.service == "postgres":
            _run_postgres(at)
        _start_service(at, progress, planned)
        if planned.with_data:
            # Gitea is in service already. Docker's health checks run every few seconds, and the next command reads them.
            seconds = 60 * at.site.update.healthy_minutes
            health.await_healthy(at.world, ["gitea", "postgres"], project=at.paths.project, seconds=seconds)


def has_changed_data(at: UpdateContext, pending: Pending) -> bool:
    """Tell whether the new version has changed data."""
    if not pending.planned.with_data:
        return False
    if pending.planned.needs_pg_upgrade:
        return "switch" in pending.steps
    migration = None
    with suppress(OpsError):
        with at.world.postgres.session(at.world.containers.name(at.paths.project, "postgres")) as session:
            ((number,),) = session.ask("SELECT version FROM version")
        migration = int(number)
    answers = _new_gitea_runs(at, pending) and _gitea_answers(at)
    return needs_data(pending, migration, answers=answers) or data_check.has_lost_rows(at, pending)


def _steps(pending: Pending) -> tuple[tuple[str, StepFunction], ...]:
    """Return the steps of an update in their order; each is recorded before it runs."""
    replacing: tuple[tuple[str, StepFunction], ...] = (("pin", _pin), ("up", up), ("judge", check_new_version))
    if not pending.planned.with_data:
        return replacing
    upgrading = (("convert", pg_upgrade.convert), ("switch", pg_upgrade.switch))
    return (
        ("stop", _stop),
        ("picture", _snapshot),
        *(upgrading if pending.planned.needs_pg_upgrade else ()),
        *replacing,
    )


def _test_and_watch(run: Run) -> tuple[str, ...]:
    """Return the findings of the smoke test; if there are none, those of the watch, then the failing probes."""
    at, planned, site, project = run.at, run.pending.planned, run.at.site, run.at.paths.project
    findings: tuple[str, ...] = ()
    if planned.with_data:
        gitea = planned.target if planned.service == "gitea" else available.current_pins(at.compose)["gitea"]
        findings = smoke_test.use(site, at.world, project=project, release=gitea.release, canary=run.pending.canary)
        findings = findings or data_check.findings(run)
    seconds = site.update.watch_seconds
    return (
        findings
        or smoke_test.watch(site, at.world, project=project, service=planned.service, seconds=seconds)
        or smoke_test.failing_probes(site, at.world, project=project, services=health.services_of(at.compose))
    )


def _stop(run: Run) -> None:
    planned = run.pending.planned
    what = "It" if planned.service == "gitea" else "Its database"
    reason = f"{what} is being updated to {_plain_version(planned.target)}."
    run.progress.window.stop_gitea(reason, drain_seconds=_drain_seconds(run.at, run.pending))


def _drain_seconds(at: UpdateContext, pending: Pending) -> float:
    """Return how long running transfers may take to end: longer in the window at night."""
    return float(at.site.web.window_drain_seconds if pending.automatic else at.site.web.drain_seconds)


def _stop_new_version(at: UpdateContext, pending: Pending, progress: Progress) -> None:
    # What runs on a failing version is not waited for, and one that hangs is killed soon if its data is discarded.
    failing = "up" in pending.steps and not pending.rollback
    drain = 0.0 if failing else _drain_seconds(at, pending)
    at_most = _STOP_SECONDS if pending.with_data and not pending.rollback else None
    reason = f"It is being rolled back to {_plain_version(pending.planned.current)}."
    progress.window.stop_gitea(reason, drain_seconds=drain, at_most=at_most)


def _plain_version(pin: Pin) -> str:
    """Return a version as visitors see it: its numbers."""
    return ".".join(map(str, pin.release.numbers))


def _snapshot(run: Run) -> None:
    """Make snapshots of data and database while Gitea is stopped.

    A snapshot of a running server's whole data directory equals its state after a power failure, and the server recovers
    from that (PostgreSQL's manual, "File System Level Backup"). After a checkpoint there is almost nothing to replay.
    """
    at, world = run.at, run.at.world
    with world.postgres.session(world.containers.name(at.paths.project, "postgres"), "postgres") as session:
        session.ask("CHECKPOINT")
    world.btrfs.sync(at.paths.data)
    for name in DATA:
        world.btrfs.snapshot(at.paths.data / name, at.snapshots / name)


def _pin(run: Run) -> None:
    _write_pin(run.at, run.pending.planned.service, run.pending.planned.target)


def _write_pin(at: UpdateContext, service: str, pin: Pin) -> None:
    environment = at.compose / SETTINGS
    text = environment.read_text(encoding="utf-8")
    at.world.files.write(environment, pins.into_environment(text, service, pin).encode())


def _run_postgres(at: UpdateContext) -> None:
    """Run PostgreSQL by its pin and set the site's current password: the data may be from before a rotation."""
    _run_by_pin(at, "postgres")
    _await_healthy(at, "postgres")
    password = (at.paths.secrets / "database-password").read_text(encoding="utf-8")
    apply_secrets.ensure_database_password(password, at.world)


def _start_clock(progress: Progress, planned: PlannedUpdate) -> None:
    """Start measuring the time without the service; replacing nginx or HAProxy does not interrupt it."""
    if planned.service not in REPLACEABLE:
        progress.window.start_clock()


def _start_service(at: UpdateContext, progress: Progress, planned: PlannedUpdate) -> None:
    """Run the service by its pin (Gitea, if the updated service has Gitea's data), then end maintenance mode."""
    if planned.service != "certbot":
        _run_by_pin(at, "gitea" if planned.with_data else planned.service)
        _await_healthy(at, "gitea" if planned.with_data else planned.service)
    progress.window.end_maintenance_mode()
    if planned.with_data:
        await_reachable(at)
    progress.window.stop_clock()


def await_reachable(at: UpdateContext) -> None:
    """Wait until nginx, if it runs, has found the new container of a healthy Gitea."""
    began = at.world.clock.monotonic()
    while _is_running(at, "nginx") and not _is_reachable(at):
        if at.world.clock.monotonic() - began > _REACHABLE_SECONDS:
            at.world.tell(f"nginx does not reach Gitea after {_REACHABLE_SECONDS:.0f} s")
            return
        at.world.clock.sleep(0.1)


def _certbot(at: UpdateContext) -> tuple[str, ...]:
    argv = ["docker", "compose", "--progress", "quiet", "--profile", "tools", "run", "--rm", "--no-deps", "--no-TTY"]
    done = at.world.processes.run([*argv, "certbot", "--version"], directory=at.compose)
    return (f"certbot --version: {done.output.strip()[-300:]}",) if done.code else ()


def _run_by_pin(at: UpdateContext, service: str) -> None:
    """Run one service by its pin in .env. Its image was pulled before, so the outage does not wait for a download.

    Compose creates the container and the engine starts it. `compose up` would wait for the health checks of the service's
    dependencies. `compose up --no-deps` leaves a container that the next plain `compose up` recreates, because the hash of
    its settings lacks the dependencies.
    """
    if service in REPLACEABLE and _is_running(at, service):
        _hand_over(at, service)
        return
    # nginx and HAProxy share the network of the service "door".
    services = [NETWORK_OWNER, *REPLACEABLE] if service in {NETWORK_OWNER, *REPLACEABLE} else [service]
    _compose(at, service, "create", "--pull", "never", *services)
    if service == "gitea":
        _start_database(at)
    for each in services:
        at.world.containers.start(at.paths.project, each)


def _start_database(at: UpdateContext) -> None:
    """Start PostgreSQL if Compose has made its container again together with Gitea's: after that it does not run."""
    if not _is_running(at, "postgres"):
        at.world.containers.start(at.paths.project, "postgres")
        _await_healthy(at, "postgres")


def _compose(at: UpdateContext, what: str, *arguments: str) -> None:
    """Run Compose on the stack's files; raises OpsError with its output and the name of what cannot be started."""
    done = at.world.processes.run(["docker", "compose", "--progress", "quiet", *arguments], directory=at.compose)
    if done.code:
        raise OpsError(f"{what} cannot be started: {' '.join(done.output.split())[-400:]}")


def _hand_over(at: UpdateContext, service: str) -> None:
    """Start a second container of nginx or HAProxy beside the current one and hand over to it, without an outage."""
    image = image_from((at.compose / SETTINGS).read_text(encoding="utf-8"), service)
    stack = HandoverStack(at.paths.project, at.compose, lock=at.paths.lock.with_name("nginx.lock"), service=service)
    began = at.world.clock.monotonic()
    while True:
        try:
            hand_over(at.site, at.world, image, stack=stack)
        except Locked:
            # A deployment replaces nginx, too, without taking the lock of all operations.
            if at.world.clock.monotonic() - began > _HANDOVER_SECONDS:
                raise
            at.world.clock.sleep(1)
        else:
            return


def _await_healthy(at: UpdateContext, service: str) -> None:
    """Wait until a service is healthy; raises OpsError as soon as it ends or restarts, or after ``healthy_minutes``."""
    world, began, restarts = at.world, at.world.clock.monotonic(), -1
    while True:
        one = next((each for each in world.containers.services(at.paths.project) if each.name == service), None)
        if one is None or one.state != "running" or one.restarts > restarts >= 0:
            raise OpsError(f"{service} does not stay up: {one.state if one else 'its container is missing'}")
        if _is_healthy(at, one):
            return
        restarts = one.restarts
        if world.clock.monotonic() - began > 60 * at.site.update.healthy_minutes:
            raise OpsError(f"{service} is not healthy after {at.site.update.healthy_minutes} min")
        world.clock.sleep(0.25)


def _is_healthy(at: UpdateContext, service: Service) -> bool:
    """Ask Gitea or PostgreSQL directly: their containers' own health checks run only every few seconds."""
    if service.name == "gitea":
        return service.health == "healthy" or _gitea_answers(at)
    if service.name == "postgres":
        with suppress(OpsError), at.world.postgres.session(at.world.containers.name(at.paths.project, "postgres")):
            return True
        return False
    return service.health == "healthy"


def _gitea_answers(at: UpdateContext) -> bool:
    """Whether Gitea itself reports that it is healthy, also during maintenance mode."""
    try:
        return at.world.containers.execute(at.paths.project, "gitea", _GITEA_HEALTH).code == 0
    except OpsError:
        return False


def _is_reachable(at: UpdateContext) -> bool:
    """Whether Gitea answers through nginx."""
    try:
        return at.world.https.request(at.site.domain, LOCALHOST, "GET", "/api/healthz").status == 200
    except OpsError:
        return False


def _is_running(at: UpdateContext, service: str) -> bool:
    """Whether the container of a service runs."""
    return any(
        (each.name, each.state) == (service, "running") for each in at.world.containers.services(at.paths.project)
    )


def _new_gitea_runs(at: UpdateContext, pending: Pending) -> bool:
    return "up" in pending.steps and _is_running(at, "gitea")


def _put_back_snapshot(at: UpdateContext, name: str) -> None:
    """Replace the live data with a clone of its snapshot and set it aside: two renames, each atomic."""
    disk, live, aside, copy = at.world.btrfs, at.paths.data / name, at.set_aside / name, at.folder / "copy" / name
    if not aside.exists():
        # Before anything is renamed: if the snapshot cannot be cloned, the live data has to stay in place.
        disk.remove(copy)
        disk.clone(at.snapshots / name, copy)
        if live.exists():
            at.set_aside.mkdir(mode=0o700, exist_ok=True)
            disk.rename(live, aside)
    if not live.exists():
        if not copy.exists():
            disk.clone(at.snapshots / name, copy)
        disk.rename(copy, live)
