"""Results of benchmarks are stored together, and files in another format are ignored."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ops.gate.benchmarks import Bench, Figure, from_json, with_benchmark

FIGURE = Figure("unchanged backup", "1.2 s", "backup.sh: 24 s", 0.05, "at most 0.1", met=True)
BENCH = Bench("backup", "a" * 40, datetime(2026, 11, 25, 19, tzinfo=UTC), (FIGURE,), {"seconds": [1.2, 1.1]})


def test_a_benchmark_is_read_back_unchanged() -> None:
    assert from_json(with_benchmark(None, BENCH)) == (BENCH,)


def test_a_benchmark_replaces_only_its_own_earlier_figures() -> None:
    deploy = Bench("deploy", "a" * 40, BENCH.when, (), {})
    later = Bench("backup", "b" * 40, BENCH.when, (), {})
    assert from_json(with_benchmark(with_benchmark(with_benchmark(None, BENCH), deploy), later)) == (later, deploy)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"deploy": {"ratio": 0.1}}', b'{"schema": 1, "benches": [{}]}']
)
def test_a_file_in_another_format_has_no_figures_and_is_replaced(content: bytes) -> None:
    assert from_json(content) == ()
    assert from_json(with_benchmark(content, BENCH)) == (BENCH,)


def test_a_missing_file_has_no_figures() -> None:
    assert from_json(None) == ()
