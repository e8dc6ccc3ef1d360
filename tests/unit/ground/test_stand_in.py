"""The tags of the stand-in, its numbers of migrations, its lists in tests/data/recordings and docs/stand-in.md agree."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.support import recordings
from tests.support.recordings import DATA, KINDS, VERSIONS, Compared, faults, load, unserved

ROOT = Path(__file__).parents[3]
GITEA = ROOT / "ground/images/gitea"
TAGS = tomllib.loads((DATA / "tags.toml").read_text())["tags"]


def numbers_of_migrations() -> dict[str, int]:
    """The stand-in's own table, by tag."""
    tree = ast.parse((GITEA / "gitea_standin/release.py").read_text())
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_DATABASE_VERSIONS"
    ]
    return dict(ast.literal_eval(table))


def rows_after(heading: str) -> list[str]:
    """The rows of the first table after a heading of docs/stand-in.md, without its head."""
    lines = (ROOT / "docs/stand-in.md").read_text().partition(f"## {heading}\n")[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---")) + 1
    return lines[start : next((number for number in range(start, len(lines)) if not lines[number]), len(lines))]


def test_every_good_tag_has_a_recording_and_its_number_of_migrations() -> None:
    numbers = numbers_of_migrations()
    published = tomllib.loads((GITEA / "image.toml").read_text())["tags"]
    assert [each["tag"] for each in TAGS] == sorted(tag for tag in published if "-" not in tag)
    recorded = {version: load(version, "database")["version"] for version in VERSIONS}
    assert {version: numbers[version] for version in VERSIONS} == recorded
    for each in TAGS:
        invented = each["tag"].startswith("28.")
        assert (numbers[each["tag"]] == recorded[each["recording"]]) is not invented, each["tag"]
        assert numbers[each["tag"]] >= recorded[each["recording"]]


def test_the_table_of_tags_is_that_of_the_data() -> None:
    numbers = numbers_of_migrations()
    assert rows_after("Which tag is compared with which recording") == [
        f"| `{each['tag']}` | {each['recording']} | {numbers[each['tag']]} | {'; '.join(each['known'])} |".replace(
            "|  |", "| |"
        )
        for each in TAGS
    ]


def test_the_table_of_unserved_answers_is_that_of_the_data() -> None:
    expected = []
    for kind in KINDS:
        for entry in unserved()[kind]:
            given = f"; given all the same: {', '.join(entry['given'])}" if "given" in entry else ""
            names = ", ".join(f"`{name}`" for name in entry["names"])
            expected.append(f"| {kind} | {names} | {entry['reason']}{given} |")
    assert rows_after("What it does not serve") == expected


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (Compared("http", "health"), []),
        (Compared("http", "health", {"status": "500 instead of 200"}), ["http: 'health': status: 500 instead of 200"]),
        (Compared("http", "swagger", {"status": "404 instead of 200"}), []),
        (Compared("http", "swagger"), ["http: 'swagger' is served: remove it from unserved.toml"]),
        (Compared("commands", "doctor check --all", {"stdout": "shorter"}), []),
        (
            Compared("commands", "doctor check --all", {"stdout": "shorter", "exit": "2"}),
            ["commands: 'doctor check --all': exit: 2"],
        ),
    ],
)
def test_an_answer_that_differs_has_to_be_listed_and_a_listed_one_to_differ(
    monkeypatch: pytest.MonkeyPatch, result: Compared, found: list[str]
) -> None:
    alone = {key: entry for key, entry in recordings.listed("1.27.0").items() if key == (result.kind, result.name)}
    monkeypatch.setattr(recordings, "listed", lambda version: alone)
    assert faults("1.27.0", [result]) == found


def test_a_listed_request_that_was_never_recorded_is_found() -> None:
    names = {(kind, each["name"]) for kind in KINDS for each in load("1.27.0", kind)}
    assert set(recordings.listed("1.27.0")) <= names
    assert "http: 'swagger' is listed and not recorded" in faults("1.27.0", [])
