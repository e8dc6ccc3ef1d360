"""Write the list of the settings that a version of Gitea documents, for ops/config/setting_lists/.

python -m ops.cli.setting_list VERSION FILE... > ops/config/setting_lists/VERSION.txt

The files are the version's custom/conf/app.example.ini (go-gitea/gitea) and config-cheat-sheet.md of its documentation; one
of them is enough, and the list has the names of both.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from ops.config.app_ini import DEFAULT
from ops.config.known_settings import ANY

# Sections with a part that an operator names, and sections in which every key is the operator's own.
_CHOSEN = (
    (re.compile(r"queue\.\S+"), "queue.*"),
    (re.compile(r"log\.[%<].*"), "log.*"),
    (re.compile(r"markup\.sanitizer\.\S+"), "markup.sanitizer.*"),
    (re.compile(r"markup\.(?!\*)\S+"), "markup.*"),
    (re.compile(r"storage[._](?!\*)\S+"), "storage.*"),
)
_FREE = ("git.config", "highlight.mapping", "mailer.override_header", "repository.mimetype_mapping")
_NAME = r"[A-Za-z][A-Za-z0-9_.]*"
# A setting of the example may be commented out by one ;, prose follows two.
_EXAMPLE_SECTION = re.compile(r";? ?\[([^\]]+)\]\s*")
_EXAMPLE_KEY = re.compile(rf";? ?({_NAME})\s*=.*")
_SHEET_SECTION = re.compile(r"#{2,5} .*\(`([^)]*)\)\s*")
_SHEET_KEY = re.compile(rf"\s*[-*] `?({_NAME}(?:\\_[A-Za-z0-9_]+)*)`*(?: &amp; `({_NAME})`)?\s*:?.*")

Sections = dict[str, set[str]]


def from_example(text: str) -> Sections:
    """Return the sections and keys of an app.example.ini, those that are commented out included."""
    found: Sections = {DEFAULT: set()}
    section = DEFAULT
    for line in text.splitlines():
        if named := _EXAMPLE_SECTION.fullmatch(line):
            section = _section(named[1])
            found.setdefault(section, set())
        elif key := _EXAMPLE_KEY.fullmatch(line):
            found[section].add(key[1])
    return _with_free(found)


def from_sheet(text: str) -> Sections:
    """Return the sections and keys of a config-cheat-sheet.md: headings with a section in backticks, and lists of keys."""
    found: Sections = {}
    sections: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            sections = _sheet_sections(line)
            for section in sections:
                found.setdefault(section, set())
        for section in sections:
            found[section] |= _sheet_keys(line)
    return _with_free(found)


def merged(lists: Iterable[Sections]) -> Sections:
    """Return the sections and keys that any of the lists has."""
    found: Sections = {}
    for each in lists:
        for section, keys in each.items():
            found.setdefault(section, set()).update(keys)
    return {section: keys for section, keys in found.items() if keys}


def as_text(version: str, sources: Iterable[str], sections: Sections) -> str:
    """Return the text of a file of ops/config/setting_lists/."""
    lines = [
        f"# The settings that Gitea {version} documents: sections and keys, and * for names that an operator chooses.",
        *(f"# Source: {each}" for each in sources),
    ]
    for section in sorted(sections, key=lambda name: (name != DEFAULT, name)):
        lines += ["", f"[{section}]", *sorted(sections[section])]
    return "\n".join(lines) + "\n"


def _section(name: str) -> str:
    name = name.strip().lower() if name != DEFAULT else name
    return next((pattern for form, pattern in _CHOSEN if form.fullmatch(name)), name)


def _sheet_sections(heading: str) -> list[str]:
    named = _SHEET_SECTION.fullmatch(heading)
    return [_section(each) for each in re.findall(r"[^`]+", named[1]) if _is_section(each)] if named else []


def _sheet_keys(line: str) -> set[str]:
    key = _SHEET_KEY.fullmatch(line)
    names = {each.replace("\\", "") for each in key.groups() if each} if key else set()
    return {each for each in names if each == each.upper() or each.startswith("logger.")}


def _is_section(text: str) -> bool:
    return text.strip() not in {"", "and"} and not text.startswith(",")


def _with_free(found: Sections) -> Sections:
    return {section: {ANY} if section in _FREE else keys for section, keys in found.items()}


def _read(path: Path) -> Sections:
    text = path.read_text(encoding="utf-8")
    return from_sheet(text) if path.suffix == ".md" else from_example(text)


if __name__ == "__main__":
    version, *files = sys.argv[1:]
    lists = [_read(Path(each)) for each in files]
    sys.stdout.write(as_text(version, [Path(each).name for each in files], merged(lists)))
