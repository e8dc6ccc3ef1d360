"""What the benchmarks measured: each figure against a named alternative in the same run, and whether it is as good as it has to be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, in words as a person reads them.

    ``ratio`` is that to the alternative ``against`` which it was measured; None where the target is an absolute one. Without
    a ``target`` it is there to be known.
    """

    what: str
    measured: str
    against: str
    ratio: float | None
    target: str
    met: bool


@dataclass(frozen=True)
class Bench:
    """One run of a benchmark: of which git tree, when, its figures, and all it measured, as JSON has it."""

    name: str
    tree: str
    when: datetime
    figures: tuple[Figure, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


def from_json(content: bytes | None) -> tuple[Bench, ...]:
    """Return the benchmarks in a file; none where there is no file, or one that is not ours."""
    try:
        return tuple(_bench(each) for each in json.loads(content or b"")["benches"])
    except (ValueError, KeyError, TypeError):
        return ()


def with_benchmark(content: bytes | None, bench: Bench) -> bytes:
    """Return the file with a benchmark in it, in the place of what an earlier run of the same one measured."""
    benches = {each.name: each for each in from_json(content)} | {bench.name: bench}
    document = {
        "schema": 1,
        "benches": [dataclasses.asdict(each) | {"when": each.when.isoformat()} for each in benches.values()],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _bench(known: Mapping[str, Any]) -> Bench:
    figures = tuple(Figure(**each) for each in known["figures"])
    return Bench(known["name"], known["tree"], datetime.fromisoformat(known["when"]), figures, known["details"])
