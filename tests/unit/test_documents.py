"""Commands, links and diagrams in the documents are correct."""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.cli import arguments, combinations, reference
from ops.cli.place import Place
from ops.config import load
from ops.gate import evidence, stage_options
from tests.support import png, sample_report

ROOT = Path(__file__).parents[2]
NOXFILE = (ROOT / "noxfile.py").read_text()
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in (path.stem, *re.findall(r"def (test_\w+)", path.read_text()))
}
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("ground/**/*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path: path.read_text() for path in DOCUMENTS}
_FOLDERS = ("compose", "docs", "ground", "infra", "ops", "playbooks", "requirements", "sites", "tests")
# Files that a run writes, as .gitignore lists them.
_WRITTEN = ("reports", "sites/.state", "sites/keys", "sites/production.toml")


def _code(text: str) -> list[str]:
    """The code of a document: each line of its blocks, and each span."""
    parts = text.split("```")
    blocks = [line.strip().removeprefix("$ ") for part in parts[1::2] for line in part.splitlines()[1:]]
    return [*blocks, *(span for part in parts[::2] for span in re.findall(r"`([^`]+)`", part))]


_OPS = re.compile(r"(\./noxw -s ops --|sudo ops|(?<=\$ )ops|^ops(?= [a-z])) ([^|#&]*)")


def _commands() -> Iterator[tuple[str, str, str]]:
    """The commands of ops in the documents' code: where each stands, what starts it, and its words."""
    for path in DOCUMENTS:
        if path.name == "ops.md":
            continue  # generated from the parser, with verbs that lack their actions
        fenced = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
                continue
            for code in [line] if fenced else re.findall(r"`([^`]*)`", line):
                for found in _OPS.finditer(re.sub(r"\.\.\.|[][]", "", code).replace(" TIME", " 2026-11-24T04:30Z")):
                    yield f"{path.stem}-{number}", found[1], re.sub(r"  +.*", "", found[2]).strip(" \\")


def _is_a_name(words: list[str]) -> bool:
    """Whether the words are only the name of a verb, or of a verb's action."""
    (verbs,) = (each.choices for each in arguments.parser()._actions if isinstance(each, argparse._SubParsersAction))
    for word in words:
        if word not in verbs:
            return False
        groups = (each for each in verbs[word]._actions if isinstance(each, argparse._SubParsersAction))
        verbs = next((each.choices for each in groups), {})
    return True


_COMMANDS = [pytest.param(*each[1:], id=f"{each[0]}-{number}") for number, each in enumerate(_commands())]


def test_the_documents_have_commands() -> None:
    assert len(_COMMANDS) > 50


@pytest.mark.parametrize(("started_by", "words"), _COMMANDS)
def test_ops_accepts_every_command_in_a_document_in_its_place(
    started_by: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if words.isupper() or (started_by == "ops" and _is_a_name(words.split())):
        return
    try:
        parsed = arguments.parser().parse_args(shlex.split(words))
    except SystemExit:
        pytest.fail(capsys.readouterr().err)
    combinations.require(parsed)
    elsewhere = {"./noxw -s ops --": Place.HOST, "sudo ops": Place.DEPLOYING_MACHINE}.get(started_by)
    assert parsed.place is not elsewhere or parsed.anywhere_with


def test_each_stage_takes_the_options_that_a_document_gives_it() -> None:
    stages = re.compile(rf"\./noxw -s ({'|'.join(evidence.STAGES)})( -- ([^`#&]*))?")
    found = [
        (each[1], tuple(shlex.split(each[3] or ""))) for path in DOCUMENTS for each in stages.finditer(path.read_text())
    ]
    assert len(found) > 5
    for stage, options in found:
        assert evidence.command_of(stage, options)
        assert stage_options.are_valid(options), options


def _unknown(find: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """What a search finds in the documents, by their names."""
    return {str(path.relative_to(ROOT)): found for path, text in TEXTS.items() if (found := find(text))}


def test_every_session_in_a_document_is_in_the_noxfile() -> None:
    named = re.findall(r'^@nox\.session(?:\(name="(.*?)"\))?\ndef (\w+)', NOXFILE, re.MULTILINE)
    sessions = {name or function for name, function in named}
    assert "deploy-e2e" in sessions
    assert (
        _unknown(lambda text: [each for each in re.findall(r"\./noxw -s ([\w-]+)", text) if each not in sessions]) == {}
    )


def test_every_file_that_a_document_names_is_in_the_tree() -> None:
    def missing(text: str) -> list[str]:
        paths = [each for each in _code(text) if re.fullmatch(rf"({'|'.join(_FOLDERS)})/[\w.<>*/-]+", each)]
        patterns = {each: re.sub(r"<\w+>", "*", each).rstrip("/") for each in paths if not each.startswith(_WRITTEN)}
        return [each for each, pattern in patterns.items() if not list(ROOT.glob(pattern))]

    assert _unknown(missing) == {}


def test_every_test_that_a_document_names_exists() -> None:
    def missing(text: str) -> list[str]:
        named = [each.removesuffix(".py") for each in _code(text) if re.fullmatch(r"test_\w+(\.py)?", each)]
        return [each for each in named if each not in TESTS]

    assert _unknown(missing) == {}


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


def test_the_screenshot_of_the_report_shows_the_current_page() -> None:
    made_from = png.source_of((ROOT / "docs/pictures/report.png").read_bytes())
    assert made_from == sample_report.source(), "run `docs/pictures/render`"


def test_the_sample_of_the_report_has_every_stage_proven_and_a_chart_of_a_test_that_exists() -> None:
    page = sample_report.page()
    assert "Every stage is proven" in page
    assert "Restore drill of backup" in page
    assert sample_report.MEASURED_BY in TESTS


def test_the_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_the_site_file_in_the_readme_is_valid() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert load.site_from(tomllib.loads(block)).name == "production"


def test_the_reference_of_the_verbs_is_generated_from_the_parser() -> None:
    written = (ROOT / "docs/reference/ops.md").read_text()
    assert written == reference.markdown(), "run: python -m ops.cli.reference > docs/reference/ops.md"


def test_the_index_names_every_document() -> None:
    index = (ROOT / "docs/README.md").read_text()
    listed = {
        (ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#]+)", index) if "://" not in target
    }
    assert [
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.resolve() not in listed and path.name != "README.md"
    ] == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_has_a_status_and_a_date(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"^- Status: (Accepted|Superseded by \[?\d+)", text, re.MULTILINE)
    assert re.search(r"^- Date: \d{4}-\d{2}-\d{2}$", text, re.MULTILINE)
