"""Reads and writes app.ini in Gitea's dialect: keys before the first section, no interpolation.

After go-ini/ini (parser.go, file.go) with Gitea's options: inline comments, and no continuation of lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

Sections = dict[str, dict[str, str]]
_TRIPLE = '"""'
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_DELIMITER = re.compile("[=:]")


def parse(text: str) -> Sections:
    """Section name ("" for the top) to key to value; any other line is ignored."""
    sections: Sections = {"": {}}
    current, lines = sections[""], iter(_LINES.findall(text))
    for raw in lines:
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            name = line[1:].rpartition("]")[0]
            current = sections.setdefault("" if name == "DEFAULT" else name, {})
        elif found := _key(raw.lstrip()):
            current[found[0]] = _value(found[1].lstrip(), lines)
    return sections


def render(sections: Mapping[str, Mapping[str, str]]) -> str:
    """The text that Gitea's library writes. As there, `parse` does not read every value back as it was."""
    blocks = []
    for name, keys in sections.items():
        lines = [f"[{name}]"] if name else []
        lines += [f"{_quoted_key(key)} = {_quoted(value)}" for key, value in keys.items()]
        if keys:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _key(line: str) -> tuple[str, str] | None:
    mark = next((each for each in (_TRIPLE, "`", '"') if line.startswith(each)), "")
    key, closed, rest = line[len(mark) :].partition(mark) if mark else ("", "", line)
    found = _DELIMITER.search(rest)
    if not found or (mark and not closed):
        return None
    return (key if mark else rest[: found.start()]).strip(), rest[found.end() :]


def _value(text: str, lines: Iterator[str]) -> str:
    mark = _TRIPLE if text.startswith(_TRIPLE) and len(text) > len(_TRIPLE) else "`" if text.startswith("`") else ""
    if not mark:
        return _plain(text.strip())
    value = text[len(mark) :]
    while mark not in value:
        following = next(lines, None)
        if following is None:
            raise OSError("missing closing key quote")
        if mark in following:
            return value + following.rpartition(mark)[0]
        value += following
    return value.rpartition(mark)[0]


def _plain(text: str) -> str:
    text = re.split("[#;]", text, maxsplit=1)[0].strip()
    surrounded = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text.count(text[0]) == 2
    return text[1:-1] if surrounded else text


def _quoted(value: str) -> str:
    if "\n" in value or "`" in value:
        return f"{_TRIPLE}{value}{_TRIPLE}"
    if "#" in value or ";" in value:
        return f"`{value}`"
    return f'"{value}"' if value.strip() != value else value


def _quoted_key(key: str) -> str:
    return f"`{key}`" if set(key) & set('"=:') else key
