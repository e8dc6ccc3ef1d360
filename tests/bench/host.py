"""The site's host as a benchmark meets it: commands on it, what they sent, how much memory they took, and the engine's events."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Looks at every program below `python3 -m ops VERB`, ten times a second, until its standard input ends.
_SAMPLER = """
import json, os, select, sys
peaks = {"ops": 0, "restic": 0}
def told(path):
    try:
        return open(path).read()
    except OSError:
        return ""
def field(path, name):
    return next((line.split()[1] for line in told(path).splitlines() if line.startswith(name + ":")), "0")
while not select.select([sys.stdin], [], [], 0.1)[0]:
    pids = list(filter(str.isdigit, os.listdir("/proc")))
    parents = {pid: field(f"/proc/{pid}/status", "PPid") for pid in pids}
    roots = {pid for pid in pids if told(f"/proc/{pid}/cmdline").startswith("python3\\0-m\\0ops\\0")}
    now = {"ops": 0, "restic": 0}
    for pid in pids:
        # Until it is a program of its own, a child has its parent's memory, which would be counted twice.
        if told(f"/proc/{pid}/cmdline") == told(f"/proc/{parents[pid]}/cmdline") != "":
            continue
        above = pid
        while above in parents and above not in roots:
            above = parents[above]
        if above in roots:
            # The name first: of one that ends in between nothing is counted, instead of a restic as something else.
            name = field(f"/proc/{pid}/status", "Name")
            now["restic" if name == "restic" else "ops"] += int(field(f"/proc/{pid}/smaps_rollup", "Pss")) * 1024
    peaks = {name: max(peaks[name], size) for name, size in now.items()}
print(json.dumps(peaks))
"""


@dataclass
class Memory:
    """The largest sums that were seen of the memory in use, in bytes: of restic, and of all else that `ops` ran beside it.

    What programs share (PSS) is counted once.
    """

    ops: int = 0
    restic: int = 0


@dataclass
class Run:
    """One command: its seconds, the bytes that the host sent meanwhile, and what it wrote."""

    seconds: float
    sent: int
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """A container with systemd and an engine of its own, as the ground makes it."""

    container: str

    def shell(self, script: str, *, code: int = 0) -> str:
        """Return what a script wrote on the host; raises AssertionError with both its streams when it ends otherwise."""
        argv = ["docker", "exec", self.container, "bash", "-c", f"set -eu -o pipefail; {script}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=1800)
        assert done.returncode == code, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def timed(self, script: str) -> Run:
        """Run a script on the host, and return what it took."""
        before, began = self._sent(), time.monotonic()
        output = self.shell(script)
        return Run(round(time.monotonic() - began, 2), self._sent() - before, _document(output))

    def ops(self, verb: str) -> Run:
        """Run a verb as the host itself does."""
        return self.timed(f"/usr/local/bin/ops {verb} --json 2>/dev/null")

    @contextmanager
    def memory(self) -> Iterator[Memory]:
        """Watch what `ops` takes during the block; known when that has ended."""
        seen = Memory()
        argv = ["docker", "exec", "--interactive", self.container, "python3", "-c", _SAMPLER]
        watch = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield seen
        finally:
            said, _ = watch.communicate("over\n")
        vars(seen).update(json.loads(said))

    @contextmanager
    def frozen(self, container: str) -> Iterator[list[float]]:
        """Collect for how many seconds a container stood still each time during the block, as the engine told it.

        Told as it happens: what the engine remembers of the past are its last 256 events, of health checks most of them.
        """
        pauses: list[float] = []
        chosen = f"--filter container={container} --filter event=pause --filter event=unpause"
        listen = f"docker events {chosen} --format '{{{{.Action}}}} {{{{.TimeNano}}}}' & read -r _; kill $!"
        argv = ["docker", "exec", "--interactive", self.container, "bash", "-c", listen]
        watch = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield pauses
        finally:
            said, _ = watch.communicate("over\n")
        noted = [(action, int(nanoseconds)) for action, nanoseconds in (line.split() for line in said.splitlines())]
        assert [action for action, _ in noted] == ["pause", "unpause"] * (len(noted) // 2), noted
        pauses += [(until - begin) / 1e9 for (_, begin), (_, until) in zip(noted[::2], noted[1::2], strict=True)]

    def put(self, folder: Path, target: str) -> None:
        """Bring a folder's content to the host, for the user of Gitea."""
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
    """Return the smallest value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]
