"""Commands, links and diagrams in the documents are correct."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

import pytest

from ops.cli import arguments

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_COMMANDS = [
    pytest.param(line.split("#")[0].split(" -- ", 1)[1], id=f"{path.stem}-{number}")
    for path in DOCUMENTS
    for number, line in enumerate(path.read_text().splitlines())
    if line.startswith("./noxw -s ops -- ")
]


def test_the_documents_have_commands() -> None:
    assert len(_COMMANDS) > 5


@pytest.mark.parametrize("command", _COMMANDS)
def test_ops_accepts_every_command_in_a_document(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        arguments.parser().parse_args(shlex.split(command))
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_link_within_the_repository_has_a_target(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in (ROOT / "docs/decisions").glob("*.md")]
    assert sorted(numbers) == [f"{number:04}" for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("source", sorted((ROOT / "docs/diagrams").glob("*.dot")), ids=lambda path: path.stem)
def test_every_diagram_is_rendered_from_its_current_source(source: Path) -> None:
    drawn = source.with_suffix(".svg").read_text()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert drawn.rstrip().endswith(f"<!-- made from {source.name}, sha256 {digest} -->"), "run docs/diagrams/render"
