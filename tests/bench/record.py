"""Records a benchmark's figures in reports/bench.json next to those of the others, and prints them as a table."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ground import run_registry
from ops.gate.benchmarks import Bench, Figure, with_benchmark

REPORT = run_registry.REPOSITORY / "reports/bench.json"


def _git(*arguments: str) -> str:
    argv = ["git", "-C", str(run_registry.REPOSITORY), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def record(name: str, figures: Sequence[Figure], details: Mapping[str, Any]) -> None:
    """Record a benchmark's figures for the checked-out tree."""
    tree = _git("rev-parse", "HEAD^{tree}") + (" and changes" if _git("status", "--porcelain") else "")
    made = Bench(name, tree, datetime.now(UTC).replace(microsecond=0), tuple(figures), dict(details))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_bytes(with_benchmark(REPORT.read_bytes() if REPORT.exists() else None, made))
    print()
    for each in figures:
        ratio = "" if each.ratio is None else f"{each.ratio:.4g}"
        verdict = ("met" if each.met else "MISSED") if each.target else ""
        print(f"{each.what:62} {each.measured:>14}  {each.against:34} {ratio:>8}  {each.target:14} {verdict}")
