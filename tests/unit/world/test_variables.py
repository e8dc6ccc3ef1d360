"""Every variable that the suite reads stands in docs/reference/environment.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from ops.world.environment import RULES
from ops.world.variables import VARIABLES

ROOT = Path(__file__).parents[3]
# Variables of other programs that the suite reads beside handing them on.
OTHERS = {"PATH", "PYTHONHASHSEED", "TF_CLI_CONFIG_FILE", "PYTEST_DEBUG_TEMPROOT", "LC_ALL"}


def _sources() -> list[Path]:
    """The suite's Python on the machine of a person; programs in images have an environment of their own."""
    found = [ROOT / "noxfile.py", *(ROOT / "ops").rglob("*.py"), *(ROOT / "ground").glob("*.py")]
    # The unit tests set variables in order to read them.
    tests = (each for each in (ROOT / "tests").rglob("*.py") if "unit" not in each.relative_to(ROOT).parts)
    return [*found, *tests]


def _read(source: Path) -> Iterator[str]:
    """The names of variables that a file reads from os.environ, by a literal or by a constant of the file."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        wanted = _name_in(node)
        if isinstance(wanted, ast.Constant) and isinstance(wanted.value, str):
            yield wanted.value
        elif isinstance(wanted, ast.Name) and wanted.id in constants:
            yield constants[wanted.id]


def _name_in(node: ast.AST) -> ast.expr | None:
    match node:
        case ast.Subscript(value=ast.Attribute(attr="environ"), slice=name, ctx=ast.Load()):
            return name
        case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get" | "pop"), args=[name, *_]):
            return name
        case ast.Compare(left=name, comparators=[ast.Attribute(attr="environ")]):
            return name
    return None


def test_every_variable_that_the_suite_reads_is_in_the_reference() -> None:
    found = {name: source for source in _sources() for name in _read(source)}
    assert {"OPS_TERRAFORM", "GROUND_DEBIAN_MIRROR", "OPS_BASE_IMAGE", "IMAGE_SET", "E2E_SITE"} <= set(found)
    unknown = {
        name: str(source.relative_to(ROOT))
        for name, source in found.items()
        if name not in OTHERS and not any(fnmatchcase(name, each.name) for each in VARIABLES)
    }
    assert unknown == {}, "add them to ops/world/variables.py"


def test_the_variables_of_noxw_are_in_the_reference() -> None:
    names = re.findall(r"\$\{([A-Z][A-Z_]+):-", (ROOT / "noxw").read_text(encoding="utf-8"))
    assert names
    assert set(names) <= {each.name for each in VARIABLES}


def test_every_variable_of_the_reference_is_still_read() -> None:
    read = {name for source in _sources() for name in _read(source)} | {"NOXW_PYTHON"}
    unread = [each.name for each in VARIABLES if not any(fnmatchcase(name, each.name) for name in read)]
    assert unread == []


@pytest.mark.parametrize(
    "name", [each.name for each in VARIABLES if each.name.startswith(("OPS_", "TERRAFORM_", "GATE_"))]
)
def test_a_variable_of_ops_reaches_no_program(name: str) -> None:
    rule = next(rule for rule in RULES if any(fnmatchcase(name, pattern) for pattern in rule.names))
    assert not rule.kept
