"""Maintenance mode: running pushes may end, then visitors and ssh clients get a notice with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from ops.config.paths import PROJECT
from ops.config.schema import Site
from ops.errors import OpsError
from ops.world import World

GITEA, NGINX = "gitea", "nginx"
# How long running pushes may take after new ones are refused.
DRAIN_SECONDS = 30.0
# nginx ends maintenance mode itself after this time, in case this process dies before.
_LIMIT_SECONDS = 900
_PACE_SECONDS = 0.2
# `git receive-pack` and `git-receive-pack`, over HTTP or ssh, with any options between.
_PUSH = re.compile(r"(?:^|/)git(?:-receive-pack\b| (?:.* )?receive-pack\b)")
_PLAIN = re.compile(r"[A-Za-z0-9 .,:-]+")


class MaintenanceMode:
    """Gitea during maintenance mode. ``drained`` is whether every push had ended before all visitors were refused."""

    def __init__(self, site: Site, world: World, project: str, reason: str, *, drained: bool) -> None:
        self._site, self._world, self._project, self._reason = site, world, project, reason
        self._ssh_notice = ExitStack()
        self.drained = drained

    def stop(self, *, at_most: int | None = None) -> None:
        """Stop Gitea, if it runs, within ``at_most`` seconds, and serve the notice on git's ssh port."""
        self._world.containers.stop(self._project, GITEA, at_most=at_most)
        # When it is stopped again, the notice is served already.
        self.free_ssh_port()
        sentence = f"Gitea is away for a moment. {self._reason} Try again in a minute."
        if not self._ssh_notice.enter_context(self._world.ssh.notice(self._site.gitea.ssh_port, sentence)):
            self._world.tell("git's ssh port is in use: its clients see a refused connection instead of the notice")

    def free_ssh_port(self) -> None:
        """Stop serving the notice. Call this before Gitea's container is started or recreated."""
        self._ssh_notice.close()

    def start(self) -> None:
        """Start Gitea's container again."""
        self.free_ssh_port()
        self._world.containers.start(self._project, GITEA)


@contextmanager
def maintenance_mode(
    site: Site, world: World, reason: str, *, project: str = PROJECT, drain_seconds: float = DRAIN_SECONDS
) -> Iterator[MaintenanceMode]:
    """Run the block in maintenance mode: new pushes are refused until running ones have ended, then all requests.

    ``reason`` is a plain sentence ("It is being updated to 28.1.0.") that the page, the API, git and ssh show. Pushes
    that run longer than ``drain_seconds`` are cut off. Maintenance mode ends after the block, also after an exception.
    An nginx that does not run, or that lacks the command, is reported, and the block runs without the notice.
    """
    assert _PLAIN.fullmatch(reason), reason
    with ExitStack() as undo:
        undo.callback(_refuse_in_nginx, world, project, "none")
        _refuse_in_nginx(world, project, "push", reason)
        drained = _drain(world, project, drain_seconds)
        _refuse_in_nginx(world, project, "all", reason)
        maintenance = MaintenanceMode(site, world, project, reason, drained=drained)
        undo.callback(maintenance.free_ssh_port)
        yield maintenance


def end_maintenance(world: World, project: str = PROJECT) -> None:
    """End the maintenance mode of a run that was killed. Does nothing when nginx does not run."""
    with suppress(OpsError):
        world.containers.execute(project, NGINX, ["nginx-away", "none"])


def pushes_in(processes: Iterable[str]) -> int:
    """Return how many of these command lines are a running push: over HTTP, over ssh, or Gitea's own (a merge)."""
    return sum(1 for line in processes if _PUSH.search(line))


def _drain(world: World, project: str, seconds: float) -> bool:
    """Wait until no push runs in two looks in a row: a push that was just accepted may have no process yet."""
    began, quiet = world.clock.monotonic(), 0
    while quiet < 2:
        running = _pushes(world, project)
        quiet = 0 if running else quiet + 1
        if running and world.clock.monotonic() - began >= seconds:
            world.tell(f"{running} pushes have not ended after {seconds:.0f} s: they are cut off")
            return False
        if quiet < 2:
            world.clock.sleep(_PACE_SECONDS)
    return True


def _pushes(world: World, project: str) -> int:
    try:
        return pushes_in(world.containers.command_lines(project, GITEA))
    except OpsError:
        # Without a running Gitea no push runs.
        return 0


def _refuse_in_nginx(world: World, project: str, requests: str, reason: str = "") -> None:
    """Have nginx refuse ``requests``: "push", "all" or "none"."""
    more = [str(_LIMIT_SECONDS), reason] if reason else []
    try:
        ran = world.containers.execute(project, NGINX, ["nginx-away", requests, *more])
    except OpsError as error:
        world.tell(f"nginx does not serve the maintenance page: {error.message}")
        return
    if ran.code:
        world.tell(f"nginx does not serve the maintenance page: {ran.output.strip()}")
