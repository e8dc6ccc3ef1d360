"""The table of the local site's limits (docs/localstack.md) names existing tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_in_the_table_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/localstack.md").read_text()))
    existing = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert named
    assert named - existing == set()
