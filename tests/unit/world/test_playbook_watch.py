"""The watchdog of playbooks: silence is reported, and ended with a record of the processes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ops.world.playbook_watch import LOCAL_SECONDS, REMOTE_SECONDS, REPORT_SECONDS, TRACE_SECONDS, PlaybookWatch

LOCAL, REMOTE = "ansible.builtin.assert", "ansible.builtin.apt"


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Watched:
    """A watch over a process 7, on a clock that the test sets."""

    clock: Clock = field(default_factory=Clock)
    lines: list[str] = field(default_factory=list)
    traced: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = PlaybookWatch(self.lines.append, clock=self.clock, describe=self.describe, trace=self.trace)
        self.watch.process = 7

    def trace(self, process: int) -> tuple[int, ...]:
        self.traced.append(process)
        return ()

    def describe(self, process: int) -> str:
        return f"processes of {process}"

    def after(self, seconds: float) -> bool:
        self.clock.now += seconds
        return self.watch.is_stuck()


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize(("action", "bound"), [(LOCAL, LOCAL_SECONDS), (REMOTE, REMOTE_SECONDS), ("", REMOTE_SECONDS)])
def test_a_task_without_an_event_is_stuck_after_the_bound_of_its_action(
    watched: Watched, action: str, bound: float
) -> None:
    watched.watch.begin("Refuse wrong variables", action)
    assert not watched.after(bound)
    assert watched.traced == []
    # The stacks need a moment to be written before the processes are killed.
    assert not watched.after(0.1)
    assert watched.traced == [7]
    assert not watched.after(TRACE_SECONDS - 0.2)
    assert watched.after(0.2)
    assert watched.traced == [7]
    assert watched.watch.stuck == f"no event for {bound + 0.1:.0f} s in task Refuse wrong variables"
    assert "processes of 7" in watched.lines


def test_each_event_starts_the_bound_again(watched: Watched) -> None:
    watched.watch.begin("Install", REMOTE)
    for _ in range(5):
        assert not watched.after(REMOTE_SECONDS - 1)
        watched.watch.heard()
    assert watched.watch.stuck == ""


def test_a_silent_task_is_reported_with_its_seconds_and_its_limit(watched: Watched) -> None:
    watched.watch.begin("Pull the images", REMOTE)
    watched.after(REPORT_SECONDS - 1)
    assert watched.lines == []
    watched.after(1)
    watched.after(1)
    watched.after(REPORT_SECONDS)
    assert watched.lines == [
        f"ansible: Pull the images: {REPORT_SECONDS:.0f} s without an event, ends after {REMOTE_SECONDS:.0f} s",
        f"ansible: Pull the images: {2 * REPORT_SECONDS + 1:.0f} s without an event, ends after {REMOTE_SECONDS:.0f} s",
    ]


def test_the_time_before_the_first_task_is_bounded_too(watched: Watched) -> None:
    assert not watched.after(REMOTE_SECONDS + 1)
    assert watched.after(TRACE_SECONDS + 1)
    assert "before the first task" in watched.watch.stuck
