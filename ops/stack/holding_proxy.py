"""HAProxy between nginx and Gitea, and in front of Gitea's sshd: hold new requests, and list the running ones.

A hold ends by itself after its time, because the process that began it may die. While one HAProxy replaces another there are
two containers, and every command goes to both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ops.config.compose_files import logs_command
from ops.errors import OpsError
from ops.stack.handover import HAPROXY
from ops.world import World

# The backends of haproxy.cfg, by what their sessions are.
TRANSFERS, OTHERS, STREAMS, SSH = "transfers", "gitea", "streams", "ssh"
# One line of `show sess` for each session; times are in their largest two units, such as 3s, 1m20s or 2h5m. ``rex`` is the time
# that is left to receive something from a side, and ``wex``, if there, to send something to it.
_SESSION = re.compile(r" be=(\S+) .*? age=(\S+) .* scf=\[.*?,rex=(\S*),wex=(\S*)\] scb=\[.*?,rex=(\S*),wex=(\S*)\]")
# The time-out of ssh in haproxy.cfg. Times of an hour and more have no seconds.
_SSH_TIMEOUT_SECONDS = 3540
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class RunningRequest:
    """A request that HAProxy has passed on: its backend in haproxy.cfg, and for how many seconds it has been running.

    ``idle`` is for how many seconds an ssh connection has moved no byte, with nothing left to send.
    """

    backend: str
    seconds: int
    idle: int = 0


@dataclass(frozen=True)
class Waited:
    """The requests that a hold let wait: how many, how many it refused because too many waited, and the longest wait in seconds."""

    requests: int = 0
    refused: int = 0
    longest: float = 0.0

    def __add__(self, other: Waited) -> Waited:
        """Return both together."""
        return Waited(self.requests + other.requests, self.refused + other.refused, max(self.longest, other.longest))


class HoldingProxy:
    """The site's HAProxy. Every method raises OpsError when it does not run or refuses."""

    def __init__(self, world: World, project: str) -> None:
        self._containers, self._project = world.containers, project

    def hold(self, kind: str, seconds: float, sentence: str) -> tuple[RunningRequest, ...]:
        """Let new requests wait, and return the running ones: ``kind`` is "transfers" or "all".

        The hold ends after ``seconds``. ssh clients that have waited for too long get the sentence. With "all" event streams are
        closed; browsers connect again by themselves, and wait like all others.
        """
        return _requests(self._run("hold", kind, str(int(seconds)), sentence))

    def release(self) -> Waited:
        """End the hold, and return what it let wait."""
        states = [self._state(output) for output in self._run("hold", "none")]
        return Waited(
            sum(each["served"] + each["waiting"] for each in states),
            sum(each["refused"] for each in states),
            max(each["longest"] for each in states),
        )

    def requests(self) -> tuple[RunningRequest, ...]:
        """Return the running requests. Those that wait are not among them."""
        return _requests(self._run("hold", "sessions"))

    def close(self, backend: str) -> None:
        """Close the running requests of a backend."""
        self._run("hold", "close", backend)

    def reaches_gitea(self) -> bool:
        """Whether new requests and ssh connections reach a healthy Gitea. A HAProxy that was replaced takes no new ones."""
        return any(self._execute(each, "reachable")[0] == 0 for each in self._members())

    def _state(self, output: str) -> dict[str, Any]:
        try:
            return dict(json.loads(output))
        except ValueError as error:
            raise OpsError(f"HAProxy does not tell its state: {output.strip()}", f"look at {self._logs}") from error

    def _run(self, *argv: str) -> tuple[str, ...]:
        outputs = []
        for identity in self._members():
            code, output = self._execute(identity, *argv[1:])
            if code:
                raise OpsError(f"HAProxy refuses {' '.join(argv[:2])}: {output.strip()}", f"look at {self._logs}")
            outputs.append(output)
        return tuple(outputs)

    def _execute(self, identity: str, *argv: str) -> tuple[int, str]:
        ran = self._containers.execute(self._project, HAPROXY, ["hold", *argv], identity=identity)
        return ran.code, ran.output

    def _members(self) -> tuple[str, ...]:
        found = self._containers.members(self._project, HAPROXY)
        running = tuple(each.identity for each in found if each.state == "running")
        if not running:
            raise OpsError("haproxy is not running", f"look at {self._logs}")
        return running

    @property
    def _logs(self) -> str:
        return logs_command(HAPROXY, self._project)


def _requests(outputs: Iterable[str]) -> tuple[RunningRequest, ...]:
    return tuple(each for output in outputs for each in requests_in(output))


def requests_in(sessions: str) -> tuple[RunningRequest, ...]:
    """Return the running requests in the output of HAProxy's `show sess`; a waiting one has no backend yet."""
    found = (_request(*fields) for fields in _SESSION.findall(sessions))
    return tuple(each for each in found if each.backend in {TRANSFERS, OTHERS, STREAMS, SSH})


def _request(backend: str, age: str, client: str, to_client: str, server: str, to_server: str) -> RunningRequest:
    if backend != SSH or to_client or to_server:
        return RunningRequest(backend, _seconds(age))
    left = max(_seconds(client), _seconds(server))
    return RunningRequest(backend, _seconds(age), max(_SSH_TIMEOUT_SECONDS - left, 0))


def _seconds(time: str) -> int:
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", time))
