"""Reads and writes app.ini in Gitea's dialect: keys before the first section, no interpolation."""

from __future__ import annotations

from collections.abc import Mapping

Sections = dict[str, dict[str, str]]


def parse(text: str) -> Sections:
    """Section name (lower case, "" for the top) to key to value; other lines are ignored."""
    sections: Sections = {"": {}}
    current = sections[""]
    for line in map(str.strip, text.splitlines()):
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            current = sections.setdefault(line[1:-1].strip().lower(), {})
        elif "=" in line:
            key, _, value = line.partition("=")
            current[key.strip()] = _unquoted(value.strip())
    return sections


def render(sections: Mapping[str, Mapping[str, str]]) -> str:
    """The text that `parse` reads back as the same sections."""
    blocks = []
    for name, keys in sections.items():
        lines = [f"[{name}]"] if name else []
        lines += [f"{key} = {_quoted(value)}" for key, value in keys.items()]
        if keys:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _quoted(value: str) -> str:
    # Gitea's ini library quotes with backticks: they keep blanks and characters that begin a comment.
    plain = value == value.strip() and not set(value) & set('#;`"')
    return value if plain else f"`{value}`"


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in '`"':
        return value[1:-1]
    for mark in (" #", " ;"):
        value = value.partition(mark)[0]
    return value.strip()
