"""Locks of a repository: reading needs none, and a command that waits for one reports who holds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ops.errors import Locked, OpsError
from ops.world.process import Finished, Processes
from ops.world.restic import Restic
from ops.world.restic_locks import LockHolder, holder_in
from tests.support.fakes import FakeClock

# As restic 0.18.0 prints it.
LOCKED = """unable to create lock in backend: repository is already locked exclusively by PID 4242 on host-a by root (UID 0, GID 0)
lock was created at 2026-11-23 11:58:07 (1m53.2s ago)
storage ID 2f9c4d3a
the `unlock` command can be used to remove stale locks
"""
HELD = "process 4242 on host-a, since 2026-11-23 11:58:07, exclusively"


@dataclass
class LockedProcesses(Processes):
    """A restic whose repository is locked for its first so many runs; ``commands`` has the words of each run."""

    locked_runs: int
    output_text: str = "[]"
    commands: list[Sequence[str]] = field(default_factory=list)

    def _result(self, argv: Sequence[str]) -> Finished:
        self.commands.append(argv)
        # Reading without a lock always works.
        is_locked = "--no-lock" not in argv and len(self.commands) <= self.locked_runs
        return Finished(11, LOCKED) if is_locked else Finished(0, self.output_text)

    def run_watched(
        self, argv: Sequence[str], *, environment: Mapping[str, str], on_line: Callable[[str], bool]
    ) -> tuple[Finished, str]:
        done = self._result(argv)
        return done, done.output if done.code else ""

    def pipe(
        self, source: Sequence[str], sink: Sequence[str], *, environment: Mapping[str, str], tell: Callable[[str], None]
    ) -> Finished:
        done = self._result(source)
        # The program fails, too: it got nothing.
        return Finished(1, f"pg_restore: error: input file is too short\n{done.output}") if done.code else done


def repository(processes: Processes, **more: Any) -> Restic:
    return Restic(processes, "s3:bucket", Path("password"), Path("cache"), clock=FakeClock(), **more)  # type: ignore[arg-type]


READS: dict[str, Callable[[Restic], object]] = {
    "snapshots": lambda one: one.snapshots(),
    "snapshots or none": lambda one: one.snapshots_or_none(),
    "size": lambda one: one.size("a"),
    "restore": lambda one: one.restore("a", Path("target")),
    "dump": lambda one: one.dump_into("a", "file", ["cat"], print),
    "read": lambda one: one.read("a", "file"),
    "exists": lambda one: one.exists(),
}


@pytest.mark.parametrize("name", READS)
def test_reading_a_locked_repository_takes_no_lock_and_does_not_wait(name: str) -> None:
    processes, told = LockedProcesses(10**6), list[str]()
    processes.output_text = '{"total_size": 1}' if name == "size" else "[]"
    READS[name](repository(processes, tell=told.append))
    assert [("--no-lock" in each) for each in processes.commands] == [True]
    assert told == []


@pytest.mark.parametrize("name", ["snapshots", "dump"])
def test_reading_for_a_recorded_finding_takes_a_lock(name: str) -> None:
    processes = LockedProcesses(2)
    READS[name](repository(processes, locks_reads=True))
    assert len(processes.commands) == 3
    assert not any("--no-lock" in each for each in processes.commands)


def test_a_command_that_waits_for_a_lock_says_whose_it_is_and_until_when_it_waits_every_15_seconds() -> None:
    told: list[str] = []
    processes = LockedProcesses(8)
    repository(processes, tell=told.append).forget(["a"])
    # At 0, 15 and 30 s; the lock is released after 40.
    assert told == [f"s3:bucket is locked by {HELD}: waiting until 12:05:00 UTC"] * 3
    assert "--retry-lock" not in " ".join(processes.commands[0])


@pytest.mark.parametrize("name", ["forget", "dump"])
def test_a_wait_for_a_lock_ends_after_five_minutes_and_names_the_holder_and_the_remedy(name: str) -> None:
    one = repository(LockedProcesses(10**6), locks_reads=True)
    with pytest.raises(Locked) as locked:
        one.forget(["a"]) if name == "forget" else READS[name](one)
    assert locked.value.message == f"s3:bucket is locked by {HELD}"
    assert "ops backup unlock" in locked.value.hint
    assert one.clock.monotonic() == 300


def test_a_program_that_fails_on_an_unlocked_repository_is_run_once() -> None:
    class Failing(LockedProcesses):
        def _result(self, argv: Sequence[str]) -> Finished:
            self.commands.append(argv)
            return Finished(1, "broken")

    processes = Failing(0)
    with pytest.raises(OpsError, match="broken"):
        repository(processes, locks_reads=True).dump_into("a", "file", ["cat"], print)
    assert len(processes.commands) == 1


def test_a_holder_is_read_from_restic_s_message_and_an_unknown_message_is_repeated() -> None:
    assert holder_in(LOCKED) == HELD
    assert holder_in(LOCKED.replace(" exclusively", "")) == HELD.removesuffix(", exclusively")
    assert holder_in("something\nelse") == "something else"


def test_a_lock_s_document_gives_its_holder() -> None:
    document = {"time": "2026-11-23T11:58:07.123456789+01:00", "exclusive": True, "hostname": "host-a", "pid": 4242}
    found = LockHolder.from_json(json.dumps(document | {"username": "root", "uid": 0, "gid": 0}))
    assert (found.host, found.pid, found.exclusive) == ("host-a", 4242, True)
    assert found.refreshed.astimezone(UTC) == datetime(2026, 11, 23, 10, 58, 7, 123456, UTC)
