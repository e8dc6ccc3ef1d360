"""Every test can fail: it asserts, calls a function that asserts, or says in its name that the point is to raise nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_CHECKS = ("pytest.raises", "pytest.warns", "pytest.fail")
_RAISES_NOTHING = ("_raise_nothing", "_raises_nothing", "_without_raising", "_does_not_raise")


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _asserts(function: ast.FunctionDef) -> bool:
    nodes = [*ast.walk(function)]
    calls = (ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call))
    return any(isinstance(node, ast.Assert) for node in nodes) or any(call in _CHECKS for call in calls)


def _called(function: ast.FunctionDef) -> set[str]:
    """The names of the functions and methods that a function calls."""
    called = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return {each.id if isinstance(each, ast.Name) else getattr(each, "attr", "") for each in called}


def without_assertion(modules: Mapping[str, str]) -> list[str]:
    """Return each test that cannot fail by an assertion, of modules by their names."""
    functions = [(name, each) for name, text in modules.items() for each in _functions(ast.parse(text))]
    calls = {id(each): _called(each) for _, each in functions}
    asserting = {each.name for _, each in functions if not each.name.startswith("test_") and _asserts(each)}
    while more := {each.name for _, each in functions if calls[id(each)] & asserting} - asserting:
        asserting |= more
    return [
        f"{name}::{each.name}"
        for name, each in functions
        if each.name.startswith("test_")
        and not (_asserts(each) or calls[id(each)] & asserting or each.name.endswith(_RAISES_NOTHING))
    ]


def test_every_test_asserts_or_says_that_the_point_is_to_raise_nothing() -> None:
    modules = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    assert len(modules) > 150
    assert without_assertion(modules) == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("print(1)", True),
        ("assert print(1)", False),
        ("with pytest.raises(ValueError): print(1)", False),
        ("_shared()", False),
        ("self.through()", False),
    ],
)
def test_only_a_test_without_any_assertion_is_found(body: str, found: bool) -> None:
    shared = "def _shared():\n    assert 1\n\ndef through():\n    _shared()\n\n"
    text = f"{shared}def test_a():\n    {body}\n"
    assert without_assertion({"a": text}) == (["a::test_a"] if found else [])


def test_a_test_that_raises_nothing_says_so_in_its_name() -> None:
    assert without_assertion({"a": "def test_a_good_value_raises_nothing():\n    print(1)\n"}) == []
