"""Stop Gitea on purpose: what is under way may end, new requests wait in HAProxy, and are served once Gitea is back.

From version 1.26 on, Gitea closes every running connection at SIGTERM. So the order is: drain, hold, stop, start, release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from ops import metrics
from ops.config.paths import PROJECT
from ops.config.schema import Site
from ops.errors import OpsError
from ops.metrics import Sample
from ops.stack.holding_proxy import OTHERS, SSH, TRANSFERS, HoldingProxy, RunningRequest, Waited
from ops.world import World

GITEA, NGINX = "gitea", "nginx"
# The writer of the metric that silences alarms meanwhile.
_METRICS = "maintenance"
# nginx forgets the reason on its page so long after the drain, in case this process dies before.
_LIMIT_SECONDS = 900
_PACE_SECONDS = 0.25
_TELL_SECONDS = 5.0
# A younger request is not yet counted as a long one.
_LONG_SECONDS = 2
# After so long without a byte an ssh connection is idle, unless a command runs on it.
_IDLE_SECONDS = 5
# What remains of the longest wait for Gitea's stop and start, when new transfers wait for running ones.
_AWAY_SECONDS = 10
# The last short requests end within seconds.
_LAST_SECONDS = 5.0
# After a start HAProxy resolves Gitea's address within a second.
_REACHABLE_SECONDS = 10.0
# `git receive-pack` and `git-receive-pack`, over HTTP or ssh, with any options between.
_PUSH = re.compile(r"(?:^|/)git(?:-receive-pack\b| (?:.* )?receive-pack\b)")
# The command that Gitea's authorized_keys run for each command over ssh.
_SSH_COMMAND = re.compile(r"(?:^|/)gitea (?:.* )?serv key-\d+")
_PLAIN = re.compile(r"[A-Za-z0-9 .,:-]+")


@dataclass(frozen=True)
class UnderWay:
    """The running requests that a stop of Gitea would cut: their ages in seconds, transfers and others."""

    transfers: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    @property
    def long(self) -> tuple[int, ...]:
        """The ages of those that run for two seconds and more."""
        return tuple(age for age in (*self.transfers, *self.others) if age >= _LONG_SECONDS)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.transfers) + len(self.others)


class MaintenanceMode:
    """Gitea during maintenance mode.

    ``awaited`` is the greatest number of running transfers that the drain saw, ``cut`` the number of those that had not ended
    at its limit. ``waited`` has the requests that waited, once maintenance mode has ended.
    """

    def __init__(self, site: Site, world: World, project: str, reason: str) -> None:
        self._hold_seconds, self._world, self._project, self._reason = site.web.hold_seconds, world, project, reason
        self._proxy, self._holds = HoldingProxy(world, project), True
        self.awaited = self.cut = 0
        self.waited = Waited()

    @property
    def drained(self) -> bool:
        """Whether everything that was under way had ended before Gitea was stopped."""
        return not self.cut

    def stop(self, *, at_most: int | None = None) -> None:
        """Stop Gitea, if it runs, within ``at_most`` seconds."""
        self._world.containers.stop(self._project, GITEA, at_most=at_most)

    def start(self) -> None:
        """Start Gitea's container again."""
        self._world.containers.start(self._project, GITEA)

    def drain(self, seconds: float) -> None:
        """Let running transfers end within ``seconds``, then hold every new request, and let the last short ones end."""
        try:
            if seconds:
                self._await_transfers(self._proxy, seconds)
            self._hold_all(self._proxy, seconds)
        except OpsError as error:
            self._holds = False
            self._world.tell(f"new requests do not wait, they get the page: {error.message}")

    def release(self) -> None:
        """End the hold: the waiting requests go on to Gitea, or, if it does not run, get the page."""
        if not self._holds:
            # It may have begun before the error.
            with suppress(OpsError):
                self._release(self._proxy)
            return
        try:
            self._await_reachable(self._proxy)
            self._release(self._proxy)
        except OpsError as error:
            self._world.tell(f"the hold on new requests ends by itself: {error.message}")
            return
        if self.waited.requests or self.waited.refused:
            self._world.tell(waited_line(self.waited))

    def _release(self, proxy: HoldingProxy) -> None:
        self.waited += proxy.release()

    def _await_transfers(self, proxy: HoldingProxy, seconds: float) -> None:
        """Wait for a moment without a running transfer.

        A busy site has none by itself: as soon as nothing long is left, or so long before the limit that it can still end, new
        transfers wait, and pages are served. If the running ones take too long for those that wait, all go on, and it
        starts again.
        """
        clock = self._world.clock
        began, told, held = clock.monotonic(), -_TELL_SECONDS, -1.0
        while True:
            running, elapsed = self._under_way(proxy.requests()), clock.monotonic() - began
            self.awaited = max(self.awaited, len(running.long))
            if elapsed >= seconds or (held >= 0 and not running.transfers and not running.long):
                return
            held = self._hold_transfers(proxy, running, elapsed, held, seconds)
            if running.long and elapsed - told >= _TELL_SECONDS:
                self._world.tell(drain_line(running, elapsed, seconds))
                told = elapsed
            clock.sleep(_PACE_SECONDS)

    def _hold_transfers(
        self, proxy: HoldingProxy, running: UnderWay, elapsed: float, held: float, seconds: float
    ) -> float:
        """Begin or end the hold on new transfers, if it is time, and return since when they wait (-1: they do not)."""
        patience = max(self._hold_seconds - _AWAY_SECONDS, self._hold_seconds / 2)
        if held < 0 and (not running.long or elapsed >= seconds - patience):
            proxy.hold("transfers", 2 * self._hold_seconds, self._sentence)
            return elapsed
        if held >= 0 and elapsed - held >= patience:
            self._release(proxy)
            return -1.0
        return held

    def _hold_all(self, proxy: HoldingProxy, seconds: float) -> None:
        clock, patience = self._world.clock, _LAST_SECONDS if seconds else 0.0
        requests = proxy.hold("all", 2 * self._hold_seconds, self._sentence)
        began, running = clock.monotonic(), self._under_way(requests)
        lost = len(running.long)
        while running.count > lost and clock.monotonic() - began < patience:
            clock.sleep(_PACE_SECONDS)
            requests = proxy.requests()
            running = self._under_way(requests)
        self.cut = running.count
        if self.cut:
            self._world.tell(f"not ended after {seconds:.0f} s and cut off: {_counted(self.cut, 'request')}")
        if any(each.backend == SSH for each in requests):
            # Idle ones: a client that keeps its connection for later commands opens a new one, which waits.
            proxy.close(SSH)

    def _under_way(self, requests: Iterable[RunningRequest]) -> UnderWay:
        if not self._gitea_runs():
            return UnderWay()
        processes: tuple[str, ...] = ()
        # HAProxy's sessions tell of nearly everything that is under way.
        with suppress(OpsError):
            processes = self._world.containers.command_lines(self._project, GITEA)
        return under_way(requests, processes)

    def _await_reachable(self, proxy: HoldingProxy) -> None:
        clock = self._world.clock
        began = clock.monotonic()
        while self._gitea_runs() and not proxy.reaches_gitea():
            if clock.monotonic() - began > _REACHABLE_SECONDS:
                self._world.tell(f"HAProxy does not reach Gitea after {_REACHABLE_SECONDS:.0f} s")
                return
            clock.sleep(0.1)

    def _gitea_runs(self) -> bool:
        found = self._world.containers.services(self._project)
        return any((each.name, each.state) == (GITEA, "running") for each in found)

    @property
    def _sentence(self) -> str:
        return f"Gitea is away for a moment. {self._reason} Try again in a minute."


@contextmanager
def maintenance_mode(
    site: Site, world: World, reason: str, *, project: str = PROJECT, drain_seconds: float | None = None
) -> Iterator[MaintenanceMode]:
    """Run the block in maintenance mode: running transfers have ended, and new requests wait until it is over.

    ``reason`` is a plain sentence ("It is being updated to 28.1.0."). Requests that wait for more than ``web.hold_seconds``
    get it: as a page, as an answer of the API, from git and over ssh. Transfers that run longer than ``drain_seconds`` (None:
    ``web.drain_seconds``) are cut off. Maintenance mode ends after the block, also after an exception; if this process is
    killed, HAProxy ends the hold by itself. A HAProxy or nginx that does not run is reported, and the block runs without it.
    """
    assert _PLAIN.fullmatch(reason), reason
    mode = MaintenanceMode(site, world, project, reason)
    seconds = site.web.drain_seconds if drain_seconds is None else drain_seconds
    with ExitStack() as undo:
        undo.callback(metrics.remove, world, _METRICS)
        limit = world.clock.now().timestamp() + _LIMIT_SECONDS + seconds
        away = Sample("maintenance_until_timestamp_seconds", limit, {"operation": "Gitea is stopped on purpose"})
        metrics.write(site, world, _METRICS, [away])
        undo.callback(_show_reason, world, project, "")
        _show_reason(world, project, reason, seconds=_LIMIT_SECONDS + int(seconds))
        undo.callback(mode.release)
        mode.drain(seconds)
        yield mode


def end_maintenance(world: World, project: str = PROJECT) -> None:
    """End the maintenance mode of a run that was killed. Does nothing where nginx or HAProxy does not run."""
    with suppress(OpsError):
        HoldingProxy(world, project).release()
    with suppress(OpsError):
        world.containers.execute(project, NGINX, ["nginx-away", "none"])


def under_way(requests: Iterable[RunningRequest], processes: Iterable[str]) -> UnderWay:
    """Return what a stop of Gitea would cut, from HAProxy's sessions and the command lines in Gitea's container.

    Event streams and WebSockets have no end and do not count. Nor do idle ssh connections, which a client keeps for later
    commands. A command may be silent for long: so many of the connections without traffic count as commands run.
    """
    found, lines = tuple(requests), tuple(processes)
    commands = sum(1 for line in lines if _SSH_COMMAND.search(line))
    transfers = (*_ages(found, TRANSFERS), *_busy_ssh(found, commands))
    others = _ages(found, OTHERS)
    if not transfers and not others and pushes_in(lines):
        # A push whose client has gone still writes.
        others = (0,)
    return UnderWay(transfers, others)


def _ages(requests: Iterable[RunningRequest], backend: str) -> tuple[int, ...]:
    return tuple(each.seconds for each in requests if each.backend == backend)


def _busy_ssh(requests: Iterable[RunningRequest], commands: int) -> tuple[int, ...]:
    ssh = sorted((each for each in requests if each.backend == SSH), key=lambda each: each.idle)
    active = sum(1 for each in ssh if each.idle < _IDLE_SECONDS)
    return _ages(ssh[: max(active, commands)], SSH)


def pushes_in(processes: Iterable[str]) -> int:
    """Return how many of these command lines are a running push: over HTTP, over ssh, or Gitea's own (a merge)."""
    return sum(1 for line in processes if _PUSH.search(line))


def drain_line(running: UnderWay, elapsed: float, limit: float) -> str:
    """Return the progress line of a drain."""
    long = running.long
    what = _counted(len(long), "transfer")
    return f"waiting for {what}, the oldest has run for {max(long)} s ({elapsed:.0f} of at most {limit:.0f} s)"


def waited_line(waited: Waited) -> str:
    """Return the line about the requests that waited."""
    refused = f", {waited.refused} too many got the page" if waited.refused else ""
    return f"{_counted(waited.requests, 'request')} waited for Gitea, the longest for {waited.longest:.1f} s{refused}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _show_reason(world: World, project: str, reason: str, *, seconds: int = _LIMIT_SECONDS) -> None:
    """Have nginx show the reason on its page for at most ``seconds``; without one, the general sentence."""
    argv = ["nginx-away", "page", str(seconds), reason] if reason else ["nginx-away", "none"]
    try:
        ran = world.containers.execute(project, NGINX, argv)
    except OpsError as error:
        world.tell(f"nginx does not serve the maintenance page: {error.message}")
        return
    if ran.code:
        world.tell(f"nginx does not serve the maintenance page: {ran.output.strip()}")
