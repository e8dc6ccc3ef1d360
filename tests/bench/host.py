"""The site's host in a benchmark: commands on it, the bytes they sent, the memory they used, and Docker's events."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Samples every process below `python3 -m ops VERB` ten times a second until its standard input ends.
_SAMPLER = """
import json, os, select, sys
peaks = {"ops": 0, "restic": 0}
def read(path):
    try:
        return open(path).read()
    except OSError:
        return ""
def field(path, name):
    return next((line.split()[1] for line in read(path).splitlines() if line.startswith(name + ":")), "0")
while not select.select([sys.stdin], [], [], 0.1)[0]:
    pids = list(filter(str.isdigit, os.listdir("/proc")))
    parents = {pid: field(f"/proc/{pid}/status", "PPid") for pid in pids}
    roots = {pid for pid in pids if read(f"/proc/{pid}/cmdline").startswith("python3\\0-m\\0ops\\0")}
    now = {"ops": 0, "restic": 0}
    for pid in pids:
        # Before its exec a child shares its parent's memory, which must not be counted twice.
        if read(f"/proc/{pid}/cmdline") == read(f"/proc/{parents[pid]}/cmdline") != "":
            continue
        above = pid
        while above in parents and above not in roots:
            above = parents[above]
        if above in roots:
            # The name first: a process that ends in between counts as nothing, and not a restic as ops.
            name = field(f"/proc/{pid}/status", "Name")
            now["restic" if name == "restic" else "ops"] += int(field(f"/proc/{pid}/smaps_rollup", "Pss")) * 1024
    peaks = {name: max(peaks[name], size) for name, size in now.items()}
print(json.dumps(peaks))
"""


@dataclass
class Memory:
    """The peaks of memory in use, in bytes: of restic, and of `ops` with all its other processes.

    Shared memory is counted once (PSS).
    """

    ops: int = 0
    restic: int = 0


@dataclass
class Run:
    """One command: its seconds, the bytes that the host sent meanwhile, and its report."""

    seconds: float
    sent: int
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """The host of the test environment: a container with systemd and its own Docker Engine."""

    container: str

    def shell(self, script: str, *, code: int = 0) -> str:
        """Return the output of a script on the host; raises AssertionError with both streams when it does not end with ``code``."""
        argv = ["docker", "exec", self.container, "bash", "-c", f"set -eu -o pipefail; {script}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=1800)
        assert done.returncode == code, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def timed(self, script: str) -> Run:
        """Run a script on the host, and return its measurements."""
        before, began = self._sent(), time.monotonic()
        output = self.shell(script)
        return Run(round(time.monotonic() - began, 2), self._sent() - before, _document(output))

    def ops(self, verb: str) -> Run:
        """Run a verb as the host's own units do."""
        return self.timed(f"/usr/local/bin/ops {verb} --json 2>/dev/null")

    @contextmanager
    def memory(self) -> Iterator[Memory]:
        """Measure the memory of `ops` during the block; the result is filled in when the block has ended."""
        peaks = Memory()
        argv = ["docker", "exec", "--interactive", self.container, "python3", "-c", _SAMPLER]
        watch = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield peaks
        finally:
            output, _ = watch.communicate("over\n")
        vars(peaks).update(json.loads(output))

    @contextmanager
    def frozen(self, container: str) -> Iterator[list[float]]:
        """Collect the seconds of each pause of a container during the block, from Docker's events.

        The events are read live, because Docker keeps only the last 256, most of them of health checks.
        """
        pauses: list[float] = []
        chosen = f"--filter container={container} --filter event=pause --filter event=unpause"
        listen = f"docker events {chosen} --format '{{{{.Action}}}} {{{{.TimeNano}}}}' & read -r _; kill $!"
        argv = ["docker", "exec", "--interactive", self.container, "bash", "-c", listen]
        watch = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield pauses
        finally:
            output, _ = watch.communicate("over\n")
        events = [(action, int(nanoseconds)) for action, nanoseconds in (line.split() for line in output.splitlines())]
        assert [action for action, _ in events] == ["pause", "unpause"] * (len(events) // 2), events
        pauses += [(until - begin) / 1e9 for (_, begin), (_, until) in zip(events[::2], events[1::2], strict=True)]

    def put(self, folder: Path, target: str) -> None:
        """Copy a folder's content to the host, owned by Gitea's user."""
        pack = ["tar", "--create", "--owner=1000", "--group=1000", "--directory", str(folder), "."]
        packing = subprocess.Popen(pack, stdout=subprocess.PIPE)
        unpack = ["docker", "exec", "--interactive", self.container, "tar", "--extract", "--directory", target]
        subprocess.run(unpack, stdin=packing.stdout, check=True)
        assert packing.stdout
        packing.stdout.close()
        assert packing.wait() == 0

    def _sent(self) -> int:
        return int(self.shell("cat /sys/class/net/eth0/statistics/tx_bytes"))


def _document(output: str) -> dict[str, Any]:
    return dict(json.loads(output)) if output.lstrip().startswith("{") else {}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]
