"""The results of benchmarks: each figure with a named alternative from the same run, and whether it meets its target."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured figure, as text.

    ``ratio`` is the ratio to the alternative ``against``; None where the target is absolute. A figure without a ``target``
    is only for information.
    """

    what: str
    measured: str
    against: str
    ratio: float | None
    target: str
    met: bool


@dataclass(frozen=True)
class Bench:
    """One run of a benchmark: its git tree, time, figures, and all measured values as JSON."""

    name: str
    tree: str
    when: datetime
    figures: tuple[Figure, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


def from_json(content: bytes | None) -> tuple[Bench, ...]:
    """Return the benchmarks in a file's content; empty without a file or for another format."""
    try:
        return tuple(_bench(each) for each in json.loads(content or b"")["benches"])
    except (ValueError, KeyError, TypeError):
        return ()


def with_benchmark(content: bytes | None, bench: Bench) -> bytes:
    """Return the file's content with a benchmark added; it replaces an earlier run of the same benchmark."""
    benches = {each.name: each for each in from_json(content)} | {bench.name: bench}
    document = {
        "schema": 1,
        "benches": [dataclasses.asdict(each) | {"when": each.when.isoformat()} for each in benches.values()],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _bench(document: Mapping[str, Any]) -> Bench:
    figures = tuple(Figure(**each) for each in document["figures"])
    when = datetime.fromisoformat(document["when"])
    return Bench(document["name"], document["tree"], when, figures, document["details"])
