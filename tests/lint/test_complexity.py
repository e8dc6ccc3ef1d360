"""No function of ops/ and ground/ is too complex; radon also counts comprehensions and boolean operators."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from radon.complexity import cc_visit
from radon.visitors import Function

ROOT = Path(__file__).parents[2]
MOST = 10


def _modules() -> list[Path]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "ops", "ground"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    named = sorted({Path(line) for line in done.stdout.splitlines() if line.endswith(".py")})
    return [path for path in named if path.parts[:2] != ("ground", "images") and (ROOT / path).is_file()]


def _complex(code: str) -> Iterator[tuple[str, int]]:
    """The name and the complexity of each function and method above the limit."""
    for block in cc_visit(code):
        if isinstance(block, Function) and block.complexity > MOST:
            yield block.fullname, block.complexity


def test_no_function_is_more_complex_than_the_limit() -> None:
    modules = _modules()
    assert len(modules) > 80
    found = {
        f"{path} {name}": number
        for path in modules
        for name, number in _complex((ROOT / path).read_text(encoding="utf-8"))
    }
    assert found == {}, f"split these into named helpers: radon counts more than {MOST}"


@pytest.mark.parametrize(("branches", "found"), [(MOST - 1, []), (MOST, [("A.f", MOST + 1)])])
def test_a_method_one_branch_above_the_limit_is_found(branches: int, found: list[tuple[str, int]]) -> None:
    lines = ["class A:", "    def f(self, n):", *(f"        if n == {each}: return {each}" for each in range(branches))]
    assert list(_complex("\n".join(lines))) == found
