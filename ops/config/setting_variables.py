"""The names of the environment variables that set a key of app.ini: GITEA__section__KEY, with __FILE for a file's content.

Gitea's start copies them into app.ini (modules/setting/config_env.go of 1.22 to 1.27). It puts the section in lower case.
"""

from __future__ import annotations

import re

from ops.config.app_ini import DEFAULT

_PREFIX, _FILE = "GITEA__", "__FILE"
_ESCAPE = re.compile(r"_0[xX]((?:[0-9a-fA-F]{2})+)_")


def variable(section: str, key: str, *, from_file: bool = False) -> str:
    """Return the variable's name. Every letter that would be read as a separator or an escape is written as its bytes."""
    return f"{_PREFIX}{_escaped('' if section == DEFAULT else section)}__{_escaped(key)}{_FILE if from_file else ''}"


def decoded(name: str) -> tuple[str, str, bool] | None:
    """Return the section and the key that a variable sets, and whether its value is a file's path; None for other variables."""
    if not name.startswith(_PREFIX):
        return None
    from_file = name.endswith(_FILE)
    encoded = name[len(_PREFIX) : -len(_FILE)] if from_file else name[len(_PREFIX) :]
    # Gitea looks for the separator only between two escapes.
    parts, last = [], 0
    for found in _ESCAPE.finditer(encoded):
        parts += [(encoded[last : found.start()], False), (bytes.fromhex(found[1]).decode("utf-8", "replace"), True)]
        last = found.end()
    parts.append((encoded[last:], False))
    section, key = _separated(parts)
    return (section.lower() or DEFAULT, key, from_file) if key else None


def _separated(parts: list[tuple[str, bool]]) -> tuple[str, str]:
    section, key, in_key = "", "", False
    for text, literal in parts:
        if in_key:
            key += text
        elif not literal and "__" in text:
            before, _, key = text.partition("__")
            section, in_key = section + before, True
        else:
            section += text
    return section, key


def _escaped(text: str) -> str:
    return "".join(
        letter if _is_plain(text, at) else f"_0X{letter.encode().hex().upper()}_" for at, letter in enumerate(text)
    )


def _is_plain(text: str, at: int) -> bool:
    letter = text[at]
    if letter != "_":
        # Behind the separator, 0x would be the start of an escape.
        return letter.isascii() and letter.isalnum() and not (at == 0 and text[:2].lower() == "0x")
    around = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    return all(each.isascii() and each.isalnum() for each in around) and text[at + 1 : at + 3].lower() != "0x"
