"""Variables for Ansible as the text of a file in which Ansible evaluates no template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_ESCAPED = '"\\'


def as_data(value: Mapping[str, Any]) -> str:
    """Return variables as YAML in JSON's form, with the tag ``!unsafe`` at the whole.

    Without the tag Ansible evaluates {{ }} in a text (Ansible user guide, "Unsafe or raw strings"). At a single text the
    tag makes Ansible guess the type: a quoted "12:30" becomes 750, and "=" an error.
    """
    return f"!unsafe {_value(value, 0)}"


def _value(value: Any, depth: int) -> str:
    if isinstance(value, Mapping):
        parts = [f"{_quoted(str(key))}: {_value(each, depth + 1)}" for key, each in value.items()]
        return _block("{", parts, "}", depth)
    if isinstance(value, list | tuple):
        return _block("[", [_value(each, depth + 1) for each in value], "]", depth)
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return _quoted(str(value))


def _block(opening: str, parts: list[str], closing: str, depth: int) -> str:
    if not parts:
        return opening + closing
    lines = ",\n".join(f"{'  ' * (depth + 1)}{part}" for part in parts)
    return f"{opening}\n{lines}\n{'  ' * depth}{closing}"


def _quoted(text: str) -> str:
    """A text in double quotes. YAML has no surrogate pairs, so JSON's form is not enough (YAML 1.2, 5.7)."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPED:
        return f"\\{letter}"
    if " " <= letter <= "~":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) <= 0xFFFF else f"\\U{ord(letter):08x}"
