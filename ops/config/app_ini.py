"""The dialect of Gitea's app.ini: what its INI library writes for a value, and what it reads back.

After go-ini/ini (file.go, writeToBuffer; parser.go, readValue) with the options of Gitea (modules/setting/config_provider.go
of 1.22 to 1.27: IgnoreContinuation, and inline comments). Values may name others, %(KEY)s; that is not resolved here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

# The keys before the first section.
DEFAULT = "DEFAULT"
# unicode.IsSpace of Go. Python's str.strip() knows further ones.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_TRIPLE = '"""'
# Not str.splitlines(), which also ends lines at other characters.
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_DELIMITER = re.compile("[=:]")
_COMMENT = re.compile("[#;]")
_PROBE = "KEY"

Settings = Mapping[tuple[str, str], str]


class NotKeptError(ValueError):
    """The file cannot keep a value."""


def written(value: str) -> str:
    """Return a value as the library writes it behind ``KEY = ``."""
    if "\n" in value or "`" in value:
        return f"{_TRIPLE}{value}{_TRIPLE}"
    if "#" in value or ";" in value:
        return f"`{value}`"
    return f'"{value}"' if value.strip(_SPACE) != value else value


def kept(value: str) -> str | None:
    """Return the value that is read back after Gitea's start has written ``value``; None if the file is damaged by it."""
    try:
        found = parse(f"{_PROBE} = {written(value)}\nEND = 1\n")
    except NotKeptError:
        return None
    return found[DEFAULT, _PROBE] if found.keys() == {(DEFAULT, _PROBE), (DEFAULT, "END")} else None


def given(value: str) -> str:
    """Return the text that Gitea's start has to be given so that the file keeps ``value``; raises NotKeptError if none does.

    The library takes quotation marks around a value away. Three around them keep them.
    """
    if any(letter not in "\n\t" and unicodedata.category(letter) in {"Cc", "Cs"} for letter in value):
        raise NotKeptError("it has a control character")
    for text in (value, f"{_TRIPLE}{value}{_TRIPLE}"):
        if kept(text) == value:
            return text
    raise NotKeptError('it has a line break and """ in it')


def parse(text: str) -> dict[tuple[str, str], str]:
    """Return the values of an app.ini by section and key; raises NotKeptError for a quotation that does not end."""
    found: dict[tuple[str, str], str] = {}
    section, lines = DEFAULT, iter(_LINES.findall(text))
    for raw in lines:
        line = raw.strip(_SPACE)
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            section = line[1:].rpartition("]")[0] or DEFAULT
        elif setting := _split(raw.lstrip(_SPACE)):
            found[section, setting[0]] = _read(setting[1], lines)
    return found


def _split(line: str) -> tuple[str, str] | None:
    """Return the key of a line and the text behind its delimiter, = or :; None without one. The key may be in ` or "."""
    mark = next((each for each in (_TRIPLE, "`", '"') if line.startswith(each)), "")
    key, closed, rest = line[len(mark) :].partition(mark) if mark else ("", "", line)
    found = _DELIMITER.search(rest)
    if not found or (mark and not closed):
        return None
    return (key if mark else rest[: found.start()]).strip(_SPACE), rest[found.end() :]


def _read(text: str, lines: Iterator[str]) -> str:
    """Return a value from the text behind its key's delimiter, with the following lines of a quotation."""
    text = text.lstrip(_SPACE)
    mark = _TRIPLE if text.startswith(_TRIPLE) and len(text) > len(_TRIPLE) else "`" if text.startswith("`") else ""
    if not mark:
        return _plain(text.strip(_SPACE))
    text = text[len(mark) :]
    if mark in text:
        return text.rpartition(mark)[0]
    return text + _rest(mark, lines)


def _rest(mark: str, lines: Iterator[str]) -> str:
    before = ""
    for line in lines:
        if mark in line:
            return before + line.rpartition(mark)[0]
        before += line
    raise NotKeptError("a quotation does not end")


def _plain(text: str) -> str:
    text = _COMMENT.split(text, maxsplit=1)[0].strip(_SPACE)
    surrounded = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text.count(text[0]) == 2
    return text[1:-1] if surrounded else text
