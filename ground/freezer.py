"""Frozen processes of a host container, with the freezer of cgroup version 1: they cannot be killed, and the host's end waits.

Both `docker pause` and the runtime freeze a container, the latter for a moment while it starts one. A power cut that hits that
moment leaves it frozen, and no engine thaws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

# Version 2 has no such folder, and kills frozen processes.
_FREEZER = Path("/sys/fs/cgroup/freezer")


def thaw_descendants(ancestor: int) -> None:
    """Thaw every frozen cgroup that has a process below the process ``ancestor``."""
    for state in _frozen():
        if any(is_below(process, ancestor, parent_of) for process in _processes(state.parent)):
            state.write_text("THAWED")


def is_below(process: int, ancestor: int, parent: Callable[[int], int]) -> bool:
    """Return whether a process descends from another; ``parent`` returns a process's parent, 0 for none."""
    while process and process != ancestor:
        process = parent(process)
    return process == ancestor


def parent_of(process: int) -> int:
    """Return the parent of a process by /proc, 0 for none or for a process that has ended."""
    try:
        lines = Path("/proc", str(process), "status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))


def _frozen() -> Iterator[Path]:
    for state in _FREEZER.glob("**/freezer.state"):
        try:
            # A cgroup whose processes do not stop is FREEZING.
            if state.read_text().strip() != "THAWED":
                yield state
        except (FileNotFoundError, OSError):
            continue


def _processes(cgroup: Path) -> list[int]:
    try:
        return [int(each) for each in (cgroup / "cgroup.procs").read_text().split()]
    except (FileNotFoundError, OSError):
        return []
