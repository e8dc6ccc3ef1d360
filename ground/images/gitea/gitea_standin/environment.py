"""GITEA__section__KEY and GITEA__section__KEY__FILE: the environment as a source of app.ini."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from .ini import Sections

_NAME = re.compile(r"GITEA__(?P<section>.*?)__(?P<key>.+?)(?P<file>__FILE)?")
_ESCAPED = re.compile(r"_0X([0-9A-Fa-f]{2})_")


def apply(sections: Sections, environ: Mapping[str, str]) -> Sections:
    """`sections` with the overrides of the environment. Raises OSError for a __FILE that cannot be read."""
    result = {name: dict(keys) for name, keys in sections.items()}
    for section, key, value in overrides(environ):
        result.setdefault(section, {})[key] = value
    return result


def overrides(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of every variable of that form. Raises OSError."""
    for name, value in sorted(environ.items()):
        if match := _NAME.fullmatch(name):
            content = _file_content(value) if match["file"] else value
            yield _decoded(match["section"]).lower(), _decoded(match["key"]), content


def _decoded(name: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name)


def _file_content(path: str) -> str:
    # Editors and `echo` end a file with a newline that is not part of the secret.
    return Path(path).read_text().rstrip("\r\n")
