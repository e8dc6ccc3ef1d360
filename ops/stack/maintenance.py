"""Gitea is away on purpose: pushes under way may end, visitors are told why and when to come again, ssh clients too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from ops.config.paths import PROJECT
from ops.config.schema import Site
from ops.errors import OpsError
from ops.world import World

GITEA, NGINX = "gitea", "nginx"
# How long a push may still take, once no other is let in.
DRAIN_SECONDS = 30.0
# After so long visitors are let in again, should this process die before it lets them in.
_LIMIT_SECONDS = 900
_PACE_SECONDS = 0.2
# `git receive-pack` and `git-receive-pack`, over HTTP or ssh, with whatever options between.
_PUSH = re.compile(r"(?:^|/)git(?:-receive-pack\b| (?:.* )?receive-pack\b)")
_PLAIN = re.compile(r"[A-Za-z0-9 .,:-]+")


class MaintenanceMode:
    """Gitea, while visitors are turned away. ``drained`` tells whether every push had ended."""

    def __init__(self, site: Site, world: World, project: str, reason: str, *, drained: bool) -> None:
        self._site, self._world, self._project, self._reason = site, world, project, reason
        self._said = ExitStack()
        self.drained = drained

    def stop(self, *, at_most: int | None = None) -> None:
        """Stop Gitea, if it runs, waiting for it ``at_most`` so many seconds, and have ssh clients told why."""
        self._world.containers.stop(self._project, GITEA, at_most=at_most)
        # Told already, where it is stopped once more.
        self.give_back()
        sentence = f"Gitea is away for a moment. {self._reason} Try again in a minute."
        if not self._said.enter_context(self._world.ssh.notice(self._site.gitea.ssh_port, sentence)):
            self._world.tell("the port of git's ssh is taken: its users meet a refusal and not a sentence")

    def give_back(self) -> None:
        """Free the port of ssh. To be called before Gitea's container is started or made anew."""
        self._said.close()

    def start(self) -> None:
        """Start Gitea's container again."""
        self.give_back()
        self._world.containers.start(self._project, GITEA)


@contextmanager
def maintenance_mode(
    site: Site, world: World, reason: str, *, project: str = PROJECT, drain_seconds: float = DRAIN_SECONDS
) -> Iterator[MaintenanceMode]:
    """Turn visitors away while the block runs: pushes first, until those under way have ended, then everyone.

    ``reason`` is a plain sentence ("It is being updated to 28.1.0.") that the page, the API, git and ssh tell. After
    ``drain_seconds`` Gitea is not waited for any longer. Whatever happens in the block, visitors are let in again after it.
    An nginx that does not run or does not know how turns no one away, and is no reason not to go on.
    """
    assert _PLAIN.fullmatch(reason), reason
    with ExitStack() as undo:
        undo.callback(_tell_nginx, world, project, "none")
        _tell_nginx(world, project, "push", reason)
        drained = _drain(world, project, drain_seconds)
        _tell_nginx(world, project, "all", reason)
        absence = MaintenanceMode(site, world, project, reason, drained=drained)
        undo.callback(absence.give_back)
        yield absence


def end_maintenance(world: World, project: str = PROJECT) -> None:
    """Let everyone in again whom a run that was killed has turned away. An nginx that does not run turns no one away."""
    with suppress(OpsError):
        world.containers.execute(project, NGINX, ["nginx-away", "none"])


def pushes_in(processes: Iterable[str]) -> int:
    """Return how many of these command lines are a push that runs: over HTTP, over ssh, or Gitea's own (a merge)."""
    return sum(1 for line in processes if _PUSH.search(line))


def _drain(world: World, project: str, seconds: float) -> bool:
    """Wait until no push runs, two looks in a row: one may just have been let in and have no process yet."""
    began, quiet = world.clock.monotonic(), 0
    while quiet < 2:
        running = _pushes(world, project)
        quiet = 0 if running else quiet + 1
        if running and world.clock.monotonic() - began >= seconds:
            world.tell(f"{running} pushes have not ended after {seconds:.0f} s: they are cut")
            return False
        if quiet < 2:
            world.clock.sleep(_PACE_SECONDS)
    return True


def _pushes(world: World, project: str) -> int:
    try:
        return pushes_in(world.containers.command_lines(project, GITEA))
    except OpsError:
        # A Gitea that does not run has no push.
        return 0


def _tell_nginx(world: World, project: str, whom: str, reason: str = "") -> None:
    more = [str(_LIMIT_SECONDS), reason] if reason else []
    try:
        told = world.containers.execute(project, NGINX, ["nginx-away", whom, *more])
    except OpsError as error:
        world.tell(f"nginx turns no one away: {error.message}")
        return
    if told.code:
        world.tell(f"nginx turns no one away: {told.output.strip()}")
