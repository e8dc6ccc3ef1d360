"""Imports point one way, and each effect has one door."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

OPS = Path(__file__).parents[2] / "ops"

_PURE = (
    "errors",
    "model",
    "config",
    "cost",
    "inputs",
    "paths",
    "gate",
    "manifest",
    "proofs",
    "pins",
    "releases",
    "report",
    "retention",
    "picture",
    "figures",
    "seal",
    "wal",
)
_EFFECTS = {
    "boto3",
    "botocore",
    "docker",
    "subprocess",
    "smtplib",
    "socket",
    "socketserver",
    "requests",
    "http",
    "ansible_runner",
    "time",
    "fcntl",
}


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    # Below an expression, where most of a tree is, nothing is imported.
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield child
            yield from _statements(child)


@functools.cache  # four rules ask
def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _ops_modules(path: Path) -> set[str]:
    return {name.split(".")[1] for name in _imports(path) if name.startswith("ops.")}


MODULES = sorted(path for path in OPS.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", sorted((OPS / "world").glob("*.py")), ids=lambda path: path.stem)
def test_a_door_knows_values_and_errors_and_no_verb(path: Path) -> None:
    assert _ops_modules(path) <= {"schema", "model", "errors", "world"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_effects_are_reached_through_the_doors_alone(path: Path) -> None:
    assert {name.split(".")[0] for name in _imports(path)} & _EFFECTS == set()


@pytest.mark.parametrize("name", _PURE)
def test_a_pure_module_has_no_door_at_all(name: str) -> None:
    assert "world" not in _ops_modules(OPS / f"{name}.py")


def test_only_the_command_line_prints_and_exits() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if not path.stem.startswith("cli"):
            assert "sys.exit" not in text, path
            assert not re.search(r"(?<!\w)print\(", text), path
