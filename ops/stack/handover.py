"""Replace nginx or HAProxy by a new container without a failed request.

Both containers share the network namespace of the service ``door``, which holds the ports. The new one listens beside the
old one; the old one accepts no more connections and finishes its requests. The result is the container that Compose would
make from its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ops.config import compose_files
from ops.config.compose_files import SETTINGS, logs_command
from ops.config.paths import COMPOSE_DIRECTORY, PROJECT
from ops.config.schema import Site
from ops.errors import OpsError, Refused, RolledBack, Unavailable
from ops.images.pins import variable_of
from ops.model import Report
from ops.world import World
from ops.world.containers import Member
from ops.world.lock import exclusive
from ops.world.process import Finished

# The container of the last service holds the ports; the others run in its network namespace. They stop when their requests
# have ended at the first signal of each.
NGINX, HAPROXY, NETWORK_OWNER = "nginx", "haproxy", "door"
REPLACEABLE = (NGINX, HAPROXY)
_SIGNALS = {NGINX: "QUIT", HAPROXY: "USR1"}
# nginx's idle connections end after 65 s, pushes and downloads when they are done.
HANDOVER_DRAIN_SECONDS = 600.0
_HEALTHY_SECONDS = 60
_PACE_SECONDS = 0.5
_RESOLVED_LOOKS = 6


@dataclass(frozen=True)
class HandoverStack:
    """The Compose project, and the service in it that is replaced: nginx or HAProxy.

    Without ``files`` Compose uses those that the settings in ``directory`` name.
    """

    project: str = PROJECT
    directory: Path = COMPOSE_DIRECTORY
    files: tuple[str, ...] = ()
    lock: Path = Path("/run/gitea-suite/nginx.lock")
    service: str = NGINX
    environment_file: Path | None = None

    @property
    def smoke_test_project(self) -> str:
        """The project of the smoke test."""
        return f"{self.project}-trial"

    @property
    def settings(self) -> Path:
        """The file with Compose's settings."""
        return self.environment_file or self.directory / SETTINGS

    def compose(self, project: str, *more_files: str) -> list[str]:
        """Return the Compose command line for a project, with ``more_files`` behind the stack's own."""
        own = [part for file in (*self.files, *more_files) for part in ("--file", file)]
        files = own if self.files else compose_files.files(self.directory, *more_files)
        settings = ["--env-file", str(self.environment_file)] if self.environment_file else []
        return ["docker", "compose", "--progress", "quiet", "--project-name", project, *settings, *files]


@dataclass(frozen=True)
class HandoverPlan:
    """The containers by their part in a handover, by id.

    ``replacement`` is to serve from now on ("" when it has to be made), ``serving`` serve until then, ``stale`` are to be
    removed at once.
    """

    replacement: str
    serving: tuple[str, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True)
class Handover:
    """The result: whether the container was replaced, how many seconds the old one took to drain, and whether it was cut off."""

    changed: bool
    drain_seconds: float = 0.0
    cut: bool = False


def image_from(settings: str, service: str = NGINX) -> str:
    """Return the image of the service in Compose's settings (.env); raises OpsError when they name none."""
    variable = variable_of(service)
    found = re.search(rf"^{variable}=(['\"]?)(\S+)\1$", settings, re.MULTILINE)
    if not found:
        raise OpsError(f"compose/.env names no {variable}", "run ops deploy, which writes compose/.env")
    return found[2]


def plan_handover(found: Iterable[Member], image: str, image_id: str, *, force_recreate: bool = False) -> HandoverPlan:
    """Return the steps of a handover to ``image``, also after an earlier handover that was cut off.

    The newest healthy container of the image is the replacement, unless ``force_recreate`` asks for a new one. Without a
    replacement the newest healthy container, else the newest that runs, goes on serving, and every other one is stale.
    """
    members = sorted(found, key=lambda each: each.created, reverse=True)
    running = [each for each in members if each.state == "running"]
    replacement = None if force_recreate else _newest_of_image(running, image, image_id)
    serving = _serving(running, replacement)
    stays = [replacement, *serving]
    return HandoverPlan(
        replacement=replacement.identity if replacement else "",
        serving=tuple(each.identity for each in serving),
        stale=tuple(each.identity for each in members if each not in stays),
    )


def _newest_of_image(running: Sequence[Member], image: str, image_id: str) -> Member | None:
    wanted = ("healthy", image, image_id)
    return next((each for each in running if (each.health, each.image, each.image_id) == wanted), None)


def _serving(running: Sequence[Member], replacement: Member | None) -> list[Member]:
    if replacement:
        return [each for each in running if each is not replacement]
    healthy = [each for each in running if each.health == "healthy"]
    return list(healthy or running)[:1]


def replace(site: Site, world: World, *, stack: HandoverStack | None = None) -> Report:
    """Replace the service by a new container of the image and the files that Compose's settings name now.

    Raises what ``hand_over`` raises.
    """
    stack = stack or HandoverStack()
    image = image_from(stack.settings.read_text(encoding="utf-8"), stack.service)
    if not world.containers.image_id(image):
        _compose(world, stack, [*stack.compose(stack.project), "pull", "--quiet", stack.service], image)
    done = hand_over(site, world, image, stack=stack, force_recreate=True)
    cut = "; requests still open then were cut off" if done.cut else ""
    facts = {"farewell_seconds": done.drain_seconds, "cut": done.cut, "image": image}
    return Report(
        stack.service,
        done.changed,
        f"{stack.service} was replaced; the old one drained in {done.drain_seconds:.0f} s{cut}",
        facts,
    )


def hand_over(
    site: Site,
    world: World,
    image: str,
    *,
    force_recreate: bool = False,
    stack: HandoverStack | None = None,
    drain_seconds: float = HANDOVER_DRAIN_SECONDS,
) -> Handover:
    """Have one container of ``image`` serve and no other. The image must be on this machine.

    The image first passes a smoke test without visitors. Then a container of it serves beside the old one, which finishes
    its requests within ``drain_seconds``. A container that has the image already stays, unless ``force_recreate`` is set.
    A call after one that was cut off completes the handover. The pin is the caller's: until Compose's settings name the
    image, Compose would go back to the old one.

    Raises Locked while another handover runs, Refused when the image is not on this machine or fails its smoke test
    (nothing was changed), RolledBack when the new container does not become healthy (the old one serves).
    """
    stack = stack or HandoverStack()
    with exclusive(stack.lock, world.clock.now()):
        image_id = world.containers.image_id(image)
        if not image_id:
            raise Refused(
                f"image {image} is not on this machine", f"run docker pull {image}", left_as="nothing was changed"
            )
        found = world.containers.members(stack.project, stack.service)
        plan = plan_handover(found, image, image_id, force_recreate=force_recreate)
        for identity in plan.stale:
            _drain_and_remove(world, stack, identity, drain_seconds)
        if not plan.replacement:
            _smoke_test(site, world, stack, image)
            _put_beside(world, stack, image, plan.serving)
        began = world.clock.monotonic()
        ended = [_drain_and_remove(world, stack, identity, drain_seconds) for identity in plan.serving]
        took = round(world.clock.monotonic() - began, 1)
    return Handover(bool(plan.serving or not plan.replacement), took, cut=not all(ended))


def _smoke_test(site: Site, world: World, stack: HandoverStack, image: str) -> None:
    command = stack.compose(stack.smoke_test_project, "trial.yaml")
    network = f"{stack.project}_web"
    with ExitStack() as undo:
        # Before and after: a test that was cut off leaves containers, and Compose makes every network of the file.
        end = [*command, "down", "--timeout", "1"]
        undo.callback(_run, world, stack, end, image, network)
        _run(world, stack, end, image, network)
        try:
            up = ["up", "--detach", "--no-deps", "--wait", "--wait-timeout", str(_HEALTHY_SECONDS), stack.service]
            _compose(world, stack, [*command, *up], image, network)
            _compare(site, world, stack, network)
        except OpsError as error:
            logs = ["logs", "--no-color", "--no-log-prefix", "--tail", "3", stack.service]
            output = _run(world, stack, [*command, *logs], image, network).output.strip()
            raise Refused(
                f"{image} fails its smoke test: {error.message}; end of its output: {output or 'empty'}",
                f"correct compose/{stack.service} and run ops deploy, or wait for another release",
                left_as=f"nothing was changed, the old {stack.service} serves",
            ) from error


def _compare(site: Site, world: World, stack: HandoverStack, network: str) -> None:
    """Raise OpsError unless Gitea answers through the new container as it does through the serving one."""
    if stack.service == HAPROXY:
        expected, seen = (_reaches(world, project) for project in (stack.project, stack.smoke_test_project))
    else:
        expected = _answer(site, world, world.containers.address(stack.project, NETWORK_OWNER, network))
        seen = _answer(site, world, world.containers.address(stack.smoke_test_project, NGINX, network))
    if seen != expected:
        raise OpsError(f"through the new {stack.service} {seen}, through the serving one {expected}")


def _reaches(world: World, project: str) -> str:
    """Whether HAProxy reaches Gitea and its sshd; it resolves their address within a second of its start."""
    for _ in range(_RESOLVED_LOOKS):
        if world.containers.execute(project, HAPROXY, ["hold", "reachable"]).code == 0:
            return "Gitea is reached"
        world.clock.sleep(_PACE_SECONDS)
    return "Gitea is not reached"


def _answer(site: Site, world: World, address: str) -> str:
    try:
        return f"/api/healthz answers {world.https.request(site.domain, address, 'GET', '/api/healthz').status}"
    except Unavailable:
        # Before the first certificate neither speaks TLS.
        return "there is no answer"


def _put_beside(world: World, stack: HandoverStack, image: str, serving: Sequence[str]) -> None:
    with ExitStack() as undo:
        undo.callback(_withdraw, world, stack, serving)
        try:
            # With its dependencies: Compose includes them in the hash by which it recognizes a container.
            scale = f"{stack.service}={len(serving) + 1}"
            up = ["up", "--detach", "--no-recreate", "--scale", scale, stack.service]
            _compose(world, stack, [*stack.compose(stack.project), *up], image)
            _await_replacement(world, stack, serving)
        except OpsError as error:
            raise RolledBack(
                f"{image} does not become healthy: {error.message}",
                f"look at {logs_command(stack.service, stack.project)}",
                left_as=f"the old {stack.service} serves",
            ) from error
        undo.pop_all()


def _await_replacement(world: World, stack: HandoverStack, serving: Sequence[str]) -> None:
    began = world.clock.monotonic()
    while True:
        (replacement,) = [
            each for each in world.containers.members(stack.project, stack.service) if each.identity not in serving
        ]
        if (replacement.state, replacement.health) == ("running", "healthy"):
            return
        waited = world.clock.monotonic() - began
        if replacement.health == "unhealthy" or waited > _HEALTHY_SECONDS:
            raise OpsError(f"it is {replacement.state}, {replacement.health} after {waited:.0f} s")
        world.clock.sleep(_PACE_SECONDS)


def _withdraw(world: World, stack: HandoverStack, serving: Sequence[str]) -> None:
    for each in world.containers.members(stack.project, stack.service):
        if each.identity not in serving:
            _drain_and_remove(world, stack, each.identity, _HEALTHY_SECONDS)


def _drain_and_remove(world: World, stack: HandoverStack, identity: str, seconds: float) -> bool:
    """Let a container finish its requests, remove it, and return whether it ended in time."""
    began = world.clock.monotonic()
    world.containers.signal(identity, _SIGNALS[stack.service])
    _close_streams(world, stack, identity if stack.service == HAPROXY else "")
    while _runs(world, stack, identity):
        if world.clock.monotonic() - began > seconds:
            break
        world.clock.sleep(_PACE_SECONDS)
    done = not _runs(world, stack, identity)
    world.containers.remove(identity)
    return done


def _close_streams(world: World, stack: HandoverStack, identity: str) -> None:
    """Have HAProxy close the event streams, which have no end. Browsers connect again, through the replacement."""
    with suppress(OpsError):
        world.containers.execute(stack.project, HAPROXY, ["hold", "close", "streams"], identity=identity)


def _runs(world: World, stack: HandoverStack, identity: str) -> bool:
    found = world.containers.members(stack.project, stack.service)
    return any(each.identity == identity and each.state == "running" for each in found)


def _compose(world: World, stack: HandoverStack, argv: Sequence[str], image: str, network: str = "") -> None:
    done = _run(world, stack, argv, image, network)
    if done.code:
        raise OpsError(
            f"Compose failed: {' '.join(done.output.split())[-400:]}",
            f"look at docker compose --project-name {stack.project} ps",
        )


def _run(world: World, stack: HandoverStack, argv: Sequence[str], image: str, network: str) -> Finished:
    environment = {variable_of(stack.service): image} | ({"TRIAL_NETWORK": network} if network else {})
    return world.processes.run(argv, directory=stack.directory, environment=environment)
