"""Rules for the layout of ops/ and ground/ that import-linter (pyproject.toml) cannot express."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "ops").rglob("*.py"))
LONGEST = 400


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if path.parent.name == "cli":
        return
    text = path.read_text(encoding="utf-8")
    assert "sys.exit" not in text
    assert not re.search(r"(?<!\w)print\(", text)


@pytest.mark.parametrize(
    "path",
    [*MODULES, *sorted((ROOT / "ground").rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_module_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
