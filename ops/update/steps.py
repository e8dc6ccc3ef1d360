"""The steps of an update, from the stop of the old version to the judgement of the new one, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ops.config.compose_files import SETTINGS
from ops.config.paths import LOCALHOST
from ops.errors import Locked, OpsError
from ops.images import pins
from ops.images.pins import Pin
from ops.stack import apply_secrets, health
from ops.stack.maintenance import DRAIN_SECONDS
from ops.stack.nginx_handover import HANDOVER_DRAIN_SECONDS, NETWORK_OWNER, NGINX, NginxStack, image_from, replace_nginx
from ops.update import available, pg_upgrade, smoke_test
from ops.update.journal import DATA, Pending, Progress, Run, UpdateContext, needs_data
from ops.update.plan import PlannedUpdate
from ops.world.containers import Service

# nginx asks for Gitea's address once a second; a Gitea that it does not reach then is the judgement's business.
_REACHED_SECONDS = 10.0
# What a version may take to end by itself when nothing that it still writes is kept in its place.
_HANGS_SECONDS = 5
# For as long one nginx may take another's place, its farewell included.
_TURN_SECONDS = HANDOVER_DRAIN_SECONDS + 120.0
# Of Gitea itself, so that it can be asked while visitors are turned away.
_WELL = ("curl", "--fail", "--silent", "--max-time", "2", "--output", "/dev/null", "http://127.0.0.1:3000/api/healthz")

StepFunction = Callable[[Run], None]


def forward(run: Run) -> None:
    """Take every step; raises OpsError with what is wrong when one fails."""
    for name, deed in _steps(run.pending):
        take(run, name, deed)


def up(run: Run) -> None:
    """Start the new version and wait until it answers; raises OpsError when it does not."""
    at, story, move = run.at, run.story, run.pending.move
    _begin_outage(story, move)
    if move.service == "postgres":
        _run_postgres(at)
    _serve(at, story, move)


def check_new_version(run: Run) -> None:
    """Try the new version and watch it; raises OpsError with what is wrong."""
    at, pending, move, site = run.at, run.pending, run.pending.move, run.at.site
    findings: tuple[str, ...] = ()
    if move.service == "certbot":
        findings = _certbot(at)
    elif move.with_data:
        release = (move.there if move.service == "gitea" else available.running(at.compose)["gitea"]).release
        findings = smoke_test.use(site, at.world, project=at.paths.project, release=release, canary=pending.canary)
    if not findings and move.service != "certbot":
        seconds = site.update.watch_seconds
        findings = smoke_test.watch(
            site, at.world, project=at.paths.project, service=move.service, seconds=seconds
        ) or smoke_test.failing_probes(site, at.world, project=at.paths.project)
    if findings:
        raise OpsError("; ".join(findings))


def take(run: Run, name: str, deed: StepFunction) -> None:
    """Record one step, then take it."""
    run.at.journal.append({"step": name, "at": run.at.world.clock.now().isoformat()})
    with run.story.timer.step(name):
        deed(run)


def whole_stack(at: UpdateContext) -> None:
    """After a boot nothing runs yet; a new version is judged by the whole site."""
    _compose(at, "the stack", "up", "--detach", "--pull", "never")
    others = health.EXPECTED_SERVICES - {"gitea"}
    health.await_healthy(at.world, others, project=at.paths.project, seconds=60 * at.site.update.healthy_minutes)


def go_back(at: UpdateContext, pending: Pending, story: Progress) -> None:
    """Put image and, where it must be, data back, and wait until the version before is well. Each part may be done already."""
    world, project, move = at.world, at.paths.project, pending.move
    now = world.clock.now().isoformat()
    if move.anew:
        # A copy that has filled the disk is in the way of all that follows.
        pg_upgrade.clear(at)
    at.journal.append({"step": "undo", "with_data": bool(pending.with_data), "why": pending.why, "at": now})
    with story.timer.step("back"):
        _begin_outage(story, move)
        if move.with_data:
            # Whoever pushes to a version that is not well is not waited for, nor is one that hangs and whose data goes.
            drain = DRAIN_SECONDS if pending.rollback else 0.0
            at_most = _HANGS_SECONDS if pending.with_data and not pending.rollback else None
            reason = f"It is being taken back to {_plain(move.here)}."
            story.outage.stop_gitea(reason, drain_seconds=drain, at_most=at_most)
        if pending.with_data:
            world.containers.stop(project, "postgres")
            for name in DATA:
                _put_back(at, name)
        _write_pin(at, move.service, move.here)
        if pending.with_data or move.service == "postgres":
            _run_postgres(at)
        _serve(at, story, move)
        if move.with_data:
            # People are in already; the containers' own checks are due every few seconds, and the next verb asks for them.
            seconds = 60 * at.site.update.healthy_minutes
            health.await_healthy(world, ["gitea", "postgres"], project=project, seconds=seconds)


def has_changed_data(at: UpdateContext, pending: Pending) -> bool:
    """Look whether the new version has changed data."""
    if not pending.move.with_data:
        return False
    if pending.move.anew:
        return "switch" in pending.steps
    migration = None
    with suppress(OpsError):
        with at.world.postgres.session(at.world.containers.name(at.paths.project, "postgres")) as session:
            ((number,),) = session.ask("SELECT version FROM version")
        migration = int(number)
    return needs_data(pending, migration, answers=_is_new(at, pending) and _answers(at))


def _steps(pending: Pending) -> tuple[tuple[str, StepFunction], ...]:
    """The steps of an update, in their order; each is recorded before it is taken."""
    swap: tuple[tuple[str, StepFunction], ...] = (("pin", _pin), ("up", up), ("judge", check_new_version))
    anew = (("convert", pg_upgrade.convert), ("switch", pg_upgrade.switch)) if pending.move.anew else ()
    return (("stop", _stop), ("picture", _picture), *anew, *swap) if pending.move.with_data else swap


def _stop(run: Run) -> None:
    move = run.pending.move
    what = "It" if move.service == "gitea" else "Its database"
    reason = f"{what} is being updated to {_plain(move.there)}."
    run.story.outage.stop_gitea(reason, drain_seconds=DRAIN_SECONDS)


def _plain(pin: Pin) -> str:
    """A version as visitors are told it: its numbers."""
    return ".".join(map(str, pin.release.numbers))


def _picture(run: Run) -> None:
    """Photograph data and database, while no one writes to either.

    A picture of a running server's whole folder is that of one whose power failed, and it starts from that ("Continuous
    Archiving", PostgreSQL's manual, "File System Level Backup"); after a checkpoint there is next to nothing to replay.
    """
    at, world = run.at, run.at.world
    with world.postgres.session(world.containers.name(at.paths.project, "postgres"), "postgres") as session:
        session.ask("CHECKPOINT")
    world.btrfs.sync(at.paths.data)
    for name in DATA:
        world.btrfs.snapshot(at.paths.data / name, at.before / name)


def _pin(run: Run) -> None:
    _write_pin(run.at, run.pending.move.service, run.pending.move.there)


def _write_pin(at: UpdateContext, service: str, pin: Pin) -> None:
    environment = at.compose / SETTINGS
    text = environment.read_text(encoding="utf-8")
    at.world.files.write(environment, pins.into_environment(text, service, pin).encode())


def _run_postgres(at: UpdateContext) -> None:
    """Have PostgreSQL run by its pin, and take the password that the site has now: its data may be from before a rotation."""
    _run_by_pin(at, "postgres")
    _await(at, "postgres")
    password = (at.paths.secrets / "database-password").read_text(encoding="utf-8")
    apply_secrets.ensure_database_password(password, at.world)


def _begin_outage(story: Progress, move: PlannedUpdate) -> None:
    """Nobody is without nginx while another one takes its place."""
    if move.service != NGINX:
        story.outage.begin()


def _serve(at: UpdateContext, story: Progress, move: PlannedUpdate) -> None:
    """Have what people use run by its pin, and let them in when it is well: Gitea, where what is moved has its data."""
    if move.with_data:
        story.outage.give_back()
    if move.service != "certbot":
        _run_by_pin(at, "gitea" if move.with_data else move.service)
        _await(at, "gitea" if move.with_data else move.service)
    story.outage.let_in()
    if move.with_data:
        _await_reached(at)
    story.outage.end()


def _await_reached(at: UpdateContext) -> None:
    """Wait until nginx, if it runs, has found the new container of a Gitea that is well."""
    began = at.world.clock.monotonic()
    while _is_up(at, "nginx") and not _is_reached(at):
        if at.world.clock.monotonic() - began > _REACHED_SECONDS:
            at.world.tell(f"nginx does not reach Gitea after {_REACHED_SECONDS:.0f} s")
            return
        at.world.clock.sleep(0.1)


def _certbot(at: UpdateContext) -> tuple[str, ...]:
    argv = ["docker", "compose", "--progress", "quiet", "--profile", "tools", "run", "--rm", "--no-deps", "--no-TTY"]
    done = at.world.processes.run([*argv, "certbot", "--version"], directory=at.compose)
    return (f"certbot --version: {done.output.strip()[-300:]}",) if done.code else ()


def _run_by_pin(at: UpdateContext, service: str) -> None:
    """Have one service run by what .env says. Its image is there: nothing is pulled while the site is away.

    It is made by Compose, and started by the engine: `compose up` waits for the health check of what the service depends on,
    and `compose up --no-deps` leaves a container that the next plain `compose up` makes anew, for the hash of its settings
    is without what it depends on.
    """
    if service == NGINX and _is_up(at, NGINX):
        _succeed(at)
        return
    # nginx lives in the door's network.
    services = [NETWORK_OWNER, NGINX] if service in {NETWORK_OWNER, NGINX} else [service]
    _compose(at, service, "create", "--pull", "never", *services)
    for each in services:
        at.world.containers.start(at.paths.project, each)


def _compose(at: UpdateContext, what: str, *arguments: str) -> None:
    """Run Compose on the stack's files; raises OpsError with its words, of what cannot be started."""
    done = at.world.processes.run(["docker", "compose", "--progress", "quiet", *arguments], directory=at.compose)
    if done.code:
        raise OpsError(f"{what} cannot be started: {' '.join(done.output.split())[-400:]}")


def _succeed(at: UpdateContext) -> None:
    """Have another nginx take the place of the one that serves, beside it: no one finds the site away."""
    image = image_from((at.compose / SETTINGS).read_text(encoding="utf-8"))
    stack = NginxStack(at.paths.project, at.compose, lock=at.paths.lock.with_name("nginx.lock"))
    began = at.world.clock.monotonic()
    while True:
        try:
            replace_nginx(at.site, at.world, image, stack=stack)
        except Locked:
            # A deployment replaces nginx, too, and not under the lock of all operations.
            if at.world.clock.monotonic() - began > _TURN_SECONDS:
                raise
            at.world.clock.sleep(1)
        else:
            return


def _await(at: UpdateContext, service: str) -> None:
    """Wait until a service is well; raises OpsError as soon as it ends or starts anew, or when it takes too long."""
    world, began, restarts = at.world, at.world.clock.monotonic(), -1
    while True:
        one = next((each for each in world.containers.services(at.paths.project) if each.name == service), None)
        if one is None or one.state != "running" or one.restarts > restarts >= 0:
            raise OpsError(f"{service} does not stay up: {one.state if one else 'it is gone'}")
        if _is_well(at, one):
            return
        restarts = one.restarts
        if world.clock.monotonic() - began > 60 * at.site.update.healthy_minutes:
            raise OpsError(f"{service} is not well after {at.site.update.healthy_minutes} min")
        world.clock.sleep(0.25)


def _is_well(at: UpdateContext, service: Service) -> bool:
    """Ask a service itself where that is sooner than its container's own check, which is due every few seconds."""
    if service.name == "gitea":
        return service.health == "healthy" or _answers(at)
    if service.name == "postgres":
        with suppress(OpsError), at.world.postgres.session(at.world.containers.name(at.paths.project, "postgres")):
            return True
        return False
    return service.health == "healthy"


def _answers(at: UpdateContext) -> bool:
    """Whether Gitea itself says that it is well: visitors may be turned away."""
    try:
        return at.world.containers.execute(at.paths.project, "gitea", _WELL).code == 0
    except OpsError:
        return False


def _is_reached(at: UpdateContext) -> bool:
    """Whether Gitea answers through nginx."""
    try:
        return at.world.https.request(at.site.domain, LOCALHOST, "GET", "/api/healthz").status == 200
    except OpsError:
        return False


def _is_up(at: UpdateContext, service: str) -> bool:
    """Whether the container of a service runs."""
    return any(
        (each.name, each.state) == (service, "running") for each in at.world.containers.services(at.paths.project)
    )


def _is_new(at: UpdateContext, pending: Pending) -> bool:
    return "up" in pending.steps and _is_up(at, "gitea")


def _put_back(at: UpdateContext, name: str) -> None:
    """Put a copy of a picture in the place of what is there, which is kept aside: two renamings, each in an instant."""
    disk, live, aside, copy = at.world.btrfs, at.paths.data / name, at.undone / name, at.folder / "copy" / name
    if not aside.exists():
        # Before anything is moved: of a picture that cannot be copied, what is there is still better than nothing.
        disk.remove(copy)
        disk.clone(at.before / name, copy)
        if live.exists():
            at.undone.mkdir(mode=0o700, exist_ok=True)
            disk.rename(live, aside)
    if not live.exists():
        if not copy.exists():
            disk.clone(at.before / name, copy)
        disk.rename(copy, live)
