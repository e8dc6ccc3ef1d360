"""The prose has none of the listed words (docs/style.md); each has a plain replacement. Markdown wraps at 100 columns."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLUMNS = 100

# Regular expressions that must not match, case-insensitive, each with what to write instead.
WORDS: Mapping[str, str] = {
    r"anew": "again",
    r"of then": "of that time",
    r"no one|nobody": "a plain negative, or the person's role: operator, administrator, user",
    r"yet to come": "future",
    r"(is|are|was|were|be|been) (said|told)": "the program prints, reports or logs it",
    r"said aloud|aloud": "printed, logged",
    r"who(m|so)?ever": "the person's role: operator, administrator, user",
    r"what (is|was|are) (missing|left|lacking)": "the thing: missing packages, leftovers",
    r"in no time": "instantly, or the measured time",
    r"mend(s|ed|ing)?": "fix",
    r"heal(s|ed|ing)?": "recovers, repairs",
    r"heirs?": "replacement",
    r"newcomers?": "replacement, new instance",
    r"strangers?": "foreign objects, unknown resources",
    r"farewells?": "disconnect message, drain",
    r"photograph(s|ed|ing)?": "snapshot",
    r"pictures?": "snapshot; for an image: diagram, screenshot",
    r"doors?": "adapter",
    r"gatehouse": "context",
    r"watchm[ae]n": "watchdog",
    r"seal(s|ed|ing)?": "encrypt, sign",
    r"deeds?": "step",
    r"doomed": "to be deleted",
    r"lineage": "the disk_seen marker",
    r"stands? for": "means",
    r"has it that": "says",
    r"held against": "compared with, checked against",
    r"(be|is|was|are) had": "be downloaded, be obtained",
    r"(?<!there )(is|are|was|were) (?-i:none)": "does not count as, is not a",
    r"for want of": "because ... is missing",
    r"comes? in (its|the|their|each other's) way": "conflicts with, blocks",
}
_WORD = re.compile("|".join(rf"(?P<w{number}>\b(?:{each})\b)" for number, each in enumerate(WORDS)), re.IGNORECASE)

# Words that a file may contain, each with the reason, such as a persisted name.
_DOOR = {r"doors?": "the name of a service of running sites"}
_SNAPSHOT_STEP = {r"pictures?": "the name of a step in the journal of an update"}
ALLOWED: Mapping[str, Mapping[str, str]] = {
    "compose/compose.yaml": _DOOR,
    "compose/prometheus/rules/watch.yaml": _DOOR,
    "docs/concepts/updates.md": _SNAPSHOT_STEP,
    "docs/style.md": dict.fromkeys(WORDS, "quotes what not to write"),
    "ops/update/steps.py": _DOOR,
    "playbooks/roles/gitea/tasks/main.yml": _DOOR,
    "tests/data/before-layout/collect.py": {r"anew": "a folder of running sites"},
    "tests/data/recordings/unserved.toml": {r"strangers?": "a recorded request is named so"},
    "tests/lint/test_prose.py": dict.fromkeys(WORDS, "the list itself"),
    "tests/support/alert_faults.py": _DOOR,
    "tests/support/updated_site.py": {r"anew": "a folder of running sites"},
    "tests/unit/cli/test_main.py": {r"anew": "an option that still works"},
    "tests/unit/stack/test_checks_and_alerts.py": _DOOR,
    "tests/unit/config/test_load.py": {r"no one|nobody": "the value of a setting"},
}

_PYTHON, _MARKDOWN = (".py",), (".md",)
_OTHERS = (".yml", ".yaml", ".tf", ".toml", ".sh", ".j2", ".env", ".cfg", ".conf", "Dockerfile")
_COMMENT = re.compile(r"(?:^|\s)(?:#|//)\s?(.*)")
_QUOTED = re.compile(r""""([^"]*\s[^"]*)"|'([^']*\s[^']*)'""")
_NAMED = re.compile(r"^\s*(?:- )?(?:name|msg|fail_msg|success_msg|description):\s+(.*)")
# From Python 3.12 on, an f-string is several tokens.
_STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
_CODE = re.compile(r"``[^`]*``|`[^`]*`")


def _files() -> list[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(file for file in set(done.stdout.splitlines()) if (ROOT / file).is_file())


def prose_of(file: str, text: str) -> Iterator[tuple[int, str]]:
    """Return the prose of a file without code: line numbers, each with its text."""
    if file.endswith(_PYTHON):
        yield from _of_python(text)
    elif file.endswith(_MARKDOWN):
        yield from ((number, _without_code(line)) for number, line in _markdown_lines(text))
    elif file.endswith(_OTHERS) or text.startswith("#!"):
        yield from _of_others(text)


def _markdown_lines(text: str) -> Iterator[tuple[int, str]]:
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            yield number, line


def _without_code(line: str) -> str:
    return re.sub(r"\]\([^)]*\)", "]", _CODE.sub(" ", line))


def _of_python(text: str) -> Iterator[tuple[int, str]]:
    """Comments, strings of more than one word, and test names, which are sentences."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        first = token.start[0]
        if token.type == tokenize.COMMENT:
            yield first, _CODE.sub(" ", token.string)
        elif token.type == tokenize.NAME and token.string.startswith("test_"):
            yield first, token.string.replace("_", " ")
        elif token.type in _STRINGS and re.search(r"\S\s+\S", token.string):
            for number, line in enumerate(token.string.splitlines(), first):
                yield number, re.sub(r"\{[^{}]*\}", " ", _CODE.sub(" ", line))


def _of_others(text: str) -> Iterator[tuple[int, str]]:
    """Comments, quoted strings of more than one word, and the texts that Ansible shows for a task."""
    for number, line in enumerate(text.splitlines(), 1):
        shown = [*_COMMENT.findall(line), *_NAMED.findall(line), *("".join(each) for each in _QUOTED.findall(line))]
        yield number, re.sub(r"\$?\{\{?[^}]*\}+", " ", _CODE.sub(" ", " | ".join(shown)))


def faults(file: str, text: str) -> list[str]:
    """Return each listed word of a file, with its line and what to write instead."""
    allowed = ALLOWED.get(file, {})
    return [
        f"{file}:{number}: {found[0]!r}, write: {instead}"
        for number, line in prose_of(file, text)
        for found in _WORD.finditer(line)
        for word, instead in [list(WORDS.items())[int(str(found.lastgroup).removeprefix("w"))]]
        if word not in allowed
    ]


def long_lines(file: str, text: str) -> list[str]:
    """Return each line of Markdown that is too long, except tables, markup, and lines that are long only because of a link or code."""
    return [
        f"{file}:{number}: {len(line)} columns, wrap at {COLUMNS}"
        for number, line in _markdown_lines(text)
        if len(line) > COLUMNS and not line.lstrip().startswith(("|", "<", "[")) and len(_unbroken(line)) > COLUMNS
    ]


def _unbroken(line: str) -> str:
    return re.sub(r"https?://\S+|`[^`]*`", "", _without_code(line))


def test_the_prose_has_no_listed_word() -> None:
    files = _files()
    assert len(files) > 50
    found = [each for file in files if (text := _text(file)) is not None for each in faults(file, text)]
    assert found == [], "\n" + "\n".join(found)


def test_markdown_wraps_at_100_columns() -> None:
    files = [file for file in _files() if file.endswith(_MARKDOWN)]
    found = [each for file in files for each in long_lines(file, (ROOT / file).read_text(encoding="utf-8"))]
    assert found == [], "\n" + "\n".join(found)


def test_every_allowed_word_is_in_its_file_and_has_a_reason() -> None:
    for file, words in ALLOWED.items():
        if len(words) < len(WORDS):
            text = (ROOT / file).read_text(encoding="utf-8")
            assert [word for word in words if not re.search(rf"\b(?:{word})\b", text, re.IGNORECASE)] == []
        assert all(words.values())
        assert set(words) <= set(WORDS)


def _text(file: str) -> str | None:
    try:
        return (ROOT / file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


@pytest.mark.parametrize(
    ("file", "text", "lines"),
    [
        ("a.md", "It is made anew.\n", [1]),
        ("a.md", "`anew` is code.\n\n```\nanew\n```\n\nNo\nNobody is.\n", [8]),
        ("a.md", "See [this](docs/anew.md).\n", []),
        ("a.py", '"""One.\n\nThe door to it.\n"""\n', [3]),
        ("a.py", "# Whoever reads this\nanew = 1\n", [1]),
        ("a.py", 'STEPS = ("picture", "anew")\n', []),
        ("a.py", 'text = f"made {anew} times"\n', []),
        ("a.py", 'text = f"{a} is made anew"\n', [1]),
        ("a.py", '"""``heir`` is the name of a field."""\n', []),
        ("a.py", "def test_nobody_reads_it() -> None: ...\n", [1]),
        ("a.yml", "- name: Mend the disk\n  door: 1 # anew\n", [1, 2]),
        ("a.tf", 'description = "Made anew"\nname = "anew"\n', [1]),
        ("noxw", "#!/bin/sh\n# It is told later.\nanew=1\necho 'made anew'\n", [2, 4]),
        ("Dockerfile", "# anew\nRUN anew\n", [1]),
    ],
)
def test_a_listed_word_is_found_in_prose_and_not_in_code(file: str, text: str, lines: list[int]) -> None:
    assert [int(each.split(":")[1]) for each in faults(file, text)] == lines


def test_the_message_names_file_line_word_and_what_to_write_instead() -> None:
    assert faults("a.md", "Made anew.\n") == ["a.md:1: 'anew', write: again"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a " * 50, False),
        ("a " * 51, True),
        ("| " + "a " * 60, False),
        ("a " * 30 + f"[b](https://c/{'d' * 60})", False),
        ("a " * 30 + f"`{'d' * 60}`", False),
        ("a " * 60 + "[b](c)", True),
    ],
)
def test_a_line_counts_as_long_without_its_links_and_code(line: str, found: bool) -> None:
    assert bool(long_lines("a.md", f"# Title\n\n{line}\n")) is found
