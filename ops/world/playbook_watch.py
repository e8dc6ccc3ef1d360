"""A watchdog for playbooks: it reports silence, and ends a playbook that stays silent."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

# A task of these actions works on the deploying machine alone and takes less than a second.
LOCAL_ACTIONS = frozenset(
    f"ansible.builtin.{each}"
    for each in ("assert", "debug", "fail", "include_role", "include_tasks", "include_vars", "meta", "set_fact")
)
LOCAL_SECONDS = 120.0
# The longest remote tasks install packages, pull images and wait for Gitea's migration (update.healthy_minutes: 15).
REMOTE_SECONDS = 1800.0
REPORT_SECONDS = 30.0
# How long Python gets to print its stacks before the processes are killed.
TRACE_SECONDS = 3.0


def processes_of(leader: int) -> str:
    """Return a line for each process below ``leader``: its id, state, kernel function it waits in, and command line."""
    return "\n".join(_line(each) for each in _below(leader)) or "no process is left"


def trace(leader: int) -> tuple[int, ...]:
    """Have each Python process below ``leader`` print the stacks of its threads and end (PYTHONFAULTHANDLER, SIGABRT).

    Returns all processes below ``leader``, other programs included.
    """
    family = tuple(_below(leader))
    for each in reversed(family):
        with suppress(OSError):
            if b"python" in Path(f"/proc/{each}/cmdline").read_bytes().partition(b"\0")[0]:
                os.kill(each, signal.SIGABRT)
    return family


class PlaybookWatch:
    """Measures the time since the last event. ``stuck`` says why a playbook was ended, else it is empty."""

    def __init__(
        self,
        tell: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        describe: Callable[[int], str] = processes_of,
        trace: Callable[[int], tuple[int, ...]] = trace,
        remote_seconds: float = REMOTE_SECONDS,
    ) -> None:
        self._tell, self._clock, self._describe, self._trace = tell, clock, describe, trace
        self._remote_seconds = remote_seconds
        self._task, self._bound = "", remote_seconds
        self._last = self._reported = clock()
        self._traced_at: float | None = None
        self._family: tuple[int, ...] = ()
        self.process = 0
        self.stuck = ""

    def begin(self, task: str, action: str) -> None:
        """Note that a task began; ``action`` is the full name of its module or action plugin."""
        self._task = task
        self._bound = LOCAL_SECONDS if action in LOCAL_ACTIONS else self._remote_seconds
        self.heard()

    def heard(self) -> None:
        """Note an event."""
        self._last = self._reported = self._clock()

    def is_stuck(self) -> bool:
        """Return whether the playbook has to be killed now. Reports silence on the way; called about twice a second."""
        silent = self._clock() - self._last
        if self._traced_at is not None:
            return self._clock() - self._traced_at >= TRACE_SECONDS
        if silent > self._bound:
            self._traced_at = self._clock()
            self.stuck = f"no event for {silent:.0f} s {self._where()}"
            self._tell(f"ansible: {self.stuck}; its processes:")
            self._tell(self._describe(self.process))
            self._family = self._trace(self.process)
        elif self._clock() - self._reported >= REPORT_SECONDS:
            self._reported = self._clock()
            self._tell(
                f"ansible: {self._task or 'start'}: {silent:.0f} s without an event, ends after {self._bound:.0f} s"
            )
        return False

    def kill_remaining(self) -> None:
        """Kill the processes of a stuck playbook that outlived Ansible: its workers run in sessions of their own."""
        for each in self._family:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def _where(self) -> str:
        return f"in task {self._task}" if self._task else "before the first task"


def _below(leader: int) -> Iterator[int]:
    """The process and its descendants, parents first; nothing for 0, which is an unknown process."""
    if not leader:
        return
    children: dict[int, list[int]] = {}
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            # proc(5): after the command in parentheses come the state and the parent's id.
            parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(each.name))
    waiting = [leader]
    while waiting:
        process = waiting.pop(0)
        yield process
        waiting += sorted(children.get(process, []))


def _line(process: int) -> str:
    folder = Path(f"/proc/{process}")
    try:
        state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return f"{process}: ended"
    waits = ""
    with suppress(OSError):
        waits = (folder / "wchan").read_text()
    return f"{process}: {state} {waits if waits not in ('', '0') else '-'} {command[:160]}"
