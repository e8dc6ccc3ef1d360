"""Another nginx takes the place of the one that serves, and no request fails for it.

Both share the network namespace of the service ``door``, which holds the ports: the new one listens beside the old one, the
old one accepts no more and ends what it has begun. What is left is what Compose would make of its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ops.config import compose_files
from ops.config.compose_files import SETTINGS
from ops.config.paths import COMPOSE_DIRECTORY, PROJECT
from ops.config.schema import Site
from ops.errors import OpsError, Refused, RolledBack, Unavailable
from ops.model import Report
from ops.world import World
from ops.world.containers import Member
from ops.world.lock import exclusive
from ops.world.process import Finished

NGINX, DOOR = "nginx", "door"
# Idle connections end after 65 s, pushes and downloads when they are done; an open page's stream of events would never end.
HANDOVER_DRAIN_SECONDS = 600.0
_HEALTHY_SECONDS = 60
_PACE_SECONDS = 0.5


@dataclass(frozen=True)
class Front:
    """Where nginx runs: the Compose project, its folder, and its files: as the folder's settings name them, or others."""

    project: str = PROJECT
    directory: Path = COMPOSE_DIRECTORY
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    lock: Path = Path("/run/gitea-suite/nginx.lock")

    @property
    def trial(self) -> str:
        """The project of an nginx that is being judged."""
        return f"{self.project}-trial"

    def compose(self, project: str, *more_files: str) -> list[str]:
        """Return how Compose is called for a project of these files."""
        own = [part for file in (*self.files, *more_files) for part in ("--file", file)]
        files = own if self.files else compose_files.files(self.directory, *more_files)
        return ["docker", "compose", "--progress", "quiet", "--project-name", project, *self.options, *files]


@dataclass(frozen=True)
class Plan:
    """Who of the containers stays (``heir``, empty: one has to be made), who serves until then, and who is in the way."""

    heir: str
    serving: tuple[str, ...]
    leftover: tuple[str, ...]


@dataclass(frozen=True)
class Succession:
    """What came of it: whether there is another nginx now, and how long the old one took to end, or was cut after."""

    changed: bool
    farewell_seconds: float = 0.0
    cut: bool = False


def image_from(settings: str) -> str:
    """Return the image that Compose's settings (.env) name for nginx; raises OpsError when they name none."""
    found = re.search(r"^NGINX_IMAGE=(['\"]?)(\S+)\1$", settings, re.MULTILINE)
    if not found:
        raise OpsError("compose/.env names no NGINX_IMAGE", "ops deploy writes it")
    return found[2]


def plan_handover(found: Iterable[Member], image: str, image_id: str, *, anew: bool = False) -> Plan:
    """Return what a succession to ``image`` has to do, whatever an earlier one that was cut off has left.

    The newest healthy container of the image is the heir, unless there is to be a new one in any case (``anew``). Without
    an heir the newest healthy container, else the newest that runs, goes on serving, and every other is in the way.
    """
    members = sorted(found, key=lambda each: each.created, reverse=True)
    running = [each for each in members if each.state == "running"]
    healthy = [each for each in running if each.health == "healthy"]
    heirs = [each for each in healthy if (each.image, each.image_id) == (image, image_id) and not anew]
    serving = [each for each in running if each is not heirs[0]] if heirs else (healthy or running)[:1]
    stays = [*heirs[:1], *serving]
    return Plan(
        heir=heirs[0].identity if heirs else "",
        serving=tuple(each.identity for each in serving),
        leftover=tuple(each.identity for each in members if each not in stays),
    )


def replace(site: Site, world: World, *, front: Front | None = None) -> Report:
    """Have nginx served by a new container of the image and the files that Compose's settings name now.

    Raises what ``replace_nginx`` raises.
    """
    front = front or Front()
    image = image_from((front.directory / SETTINGS).read_text(encoding="utf-8"))
    if not world.containers.image_id(image):
        _compose(world, front, [*front.compose(front.project), "pull", "--quiet", NGINX], image)
    done = replace_nginx(site, world, image, front=front, anew=True)
    cut = ", and what it had not ended by then was cut" if done.cut else ""
    summary = f"another nginx serves; the one before took {done.farewell_seconds:.0f} s to end what it had begun{cut}"
    return Report("nginx", done.changed, summary, {**vars(done), "image": image})


def replace_nginx(
    site: Site,
    world: World,
    image: str,
    *,
    anew: bool = False,
    front: Front | None = None,
    farewell_seconds: float = HANDOVER_DRAIN_SECONDS,
) -> Succession:
    """Have nginx served by ``image``, which must be on this machine, and by it alone; call it again after it was cut off.

    It is tried out where no visitor is; then it serves beside the old one, which ends what it has begun, at most for
    ``farewell_seconds``. One that is of the image already is left alone, unless there is to be another one ``anew``. The
    pin is the caller's: until Compose's settings name the image, Compose would go back. Raises Locked while another
    succession runs; Refused when the image is not here or does not stand its trial: nothing was changed; RolledBack when
    the new one does not become healthy in its place: the old one went on serving.
    """
    front = front or Front()
    with exclusive(front.lock, world.clock.now()):
        image_id = world.containers.image_id(image)
        if not image_id:
            raise Refused(f"image {image} is not on this machine", f"docker pull {image}")
        plan = plan_handover(world.containers.members(front.project, NGINX), image, image_id, anew=anew)
        for identity in plan.leftover:
            _drain_and_remove(world, front, identity, farewell_seconds)
        if not plan.heir:
            _try_out(site, world, front, image)
            _put_beside(world, front, image, plan.serving)
        began = world.clock.monotonic()
        ended = [_drain_and_remove(world, front, identity, farewell_seconds) for identity in plan.serving]
        took = round(world.clock.monotonic() - began, 1)
    return Succession(bool(plan.serving or not plan.heir), took, cut=not all(ended))


def _try_out(site: Site, world: World, front: Front, image: str) -> None:
    command = front.compose(front.trial, "trial.yaml")
    network = f"{front.project}_web"
    with ExitStack() as undo:
        # What one that was cut off has left, and afterwards what this one leaves: Compose makes every network of the file.
        end = [*command, "down", "--timeout", "1"]
        undo.callback(_run, world, front, end, image, network)
        _run(world, front, end, image, network)
        try:
            up = ["up", "--detach", "--no-deps", "--wait", "--wait-timeout", str(_HEALTHY_SECONDS), NGINX]
            _compose(world, front, [*command, *up], image, network)
            _compare(site, world, front, network)
        except OpsError as error:
            words = ["logs", "--no-color", "--no-log-prefix", "--tail", "3", NGINX]
            said = _run(world, front, [*command, *words], image, network)
            raise Refused(
                f"{image} does not stand its trial: {error.message}; its last words: {said.output.strip() or 'none'}",
                "the old one goes on; mend compose/nginx, or wait for another release",
            ) from error


def _compare(site: Site, world: World, front: Front, network: str) -> None:
    """Gitea has to answer through the new one as it does through the old one."""
    expected = _seen(site, world, world.containers.address(front.project, DOOR, network))
    seen = _seen(site, world, world.containers.address(front.trial, NGINX, network))
    if seen != expected:
        raise OpsError(f"through it {seen}, through the one that serves {expected}")


def _seen(site: Site, world: World, address: str) -> str:
    try:
        return f"/api/healthz answers {world.https.request(site.domain, address, 'GET', '/api/healthz').status}"
    except Unavailable:
        # Before the first certificate neither speaks TLS.
        return "there is no answer"


def _put_beside(world: World, front: Front, image: str, serving: Sequence[str]) -> None:
    with ExitStack() as undo:
        undo.callback(_withdraw, world, front, serving)
        try:
            # With what it depends on: Compose counts that into what it knows a container again by.
            scale = f"{NGINX}={len(serving) + 1}"
            up = ["up", "--detach", "--no-recreate", "--scale", scale, NGINX]
            _compose(world, front, [*front.compose(front.project), *up], image)
            _await_newcomer(world, front, serving)
        except OpsError as error:
            raise RolledBack(
                f"{image} does not become healthy: {error.message}", "the old one went on serving; look at its log"
            ) from error
        undo.pop_all()


def _await_newcomer(world: World, front: Front, serving: Sequence[str]) -> None:
    began = world.clock.monotonic()
    while True:
        (newcomer,) = [each for each in world.containers.members(front.project, NGINX) if each.identity not in serving]
        if (newcomer.state, newcomer.health) == ("running", "healthy"):
            return
        waited = world.clock.monotonic() - began
        if newcomer.health == "unhealthy" or waited > _HEALTHY_SECONDS:
            raise OpsError(f"it is {newcomer.state}, {newcomer.health} after {waited:.0f} s")
        world.clock.sleep(_PACE_SECONDS)


def _withdraw(world: World, front: Front, serving: Sequence[str]) -> None:
    for each in world.containers.members(front.project, NGINX):
        if each.identity not in serving:
            _drain_and_remove(world, front, each.identity, _HEALTHY_SECONDS)


def _drain_and_remove(world: World, front: Front, identity: str, seconds: float) -> bool:
    """Let a container end what it has begun, remove it, and tell whether it was done in time."""
    began = world.clock.monotonic()
    world.containers.signal(identity, "QUIT")
    while _runs(world, front, identity):
        if world.clock.monotonic() - began > seconds:
            break
        world.clock.sleep(_PACE_SECONDS)
    done = not _runs(world, front, identity)
    world.containers.remove(identity)
    return done


def _runs(world: World, front: Front, identity: str) -> bool:
    found = world.containers.members(front.project, NGINX)
    return any(each.identity == identity and each.state == "running" for each in found)


def _compose(world: World, front: Front, argv: Sequence[str], image: str, network: str = "") -> None:
    done = _run(world, front, argv, image, network)
    if done.code:
        raise OpsError(f"Compose says: {' '.join(done.output.split())[-400:]}", "look at `docker compose ps`")


def _run(world: World, front: Front, argv: Sequence[str], image: str, network: str) -> Finished:
    environment = {"NGINX_IMAGE": image} | ({"TRIAL_NETWORK": network} if network else {})
    return world.processes.run(argv, directory=front.directory, environment=environment)
