"""Options that have an effect together. An option that would be ignored is refused, with the option that it conflicts with.

``--yes`` is in no table: consent may be given where no question is asked, as scripts append it to every command.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from typing import Any

from ops.errors import ConfigError

_HISTORY = "history"
_CHOICE = frozenset({"backup", "at"})
_RESTORE = _CHOICE | {"repository", "full_copy", "from_wal", "newest_database"}
_UPDATE = frozenset({"service", "to", "without_drill", "accept_loss"})
_NOTHING: frozenset[str] = frozenset()

# For each verb its modes, which exclude each other, and the options with an effect in each; "" is the verb without a mode.
MODES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "deploy": {
        "": frozenset({"session_manager"}),
        "replace_host": frozenset({"session_manager"}),
        "dry_run": _NOTHING,
        "check": _NOTHING,
    },
    "restore": {
        "": _RESTORE,
        "dry_run": _RESTORE,
        "resume": _NOTHING,
        "export_secret_key": _CHOICE,
        "drill": frozenset({"when_due", "accept"}),
    },
    "update": {
        "": _UPDATE,
        "dry_run": _UPDATE,
        "check": _NOTHING,
        "resume": _NOTHING,
        "automatic": _UPDATE - {"to"},
        _HISTORY: _NOTHING,
    },
}
# The second option of a pair has no effect with the first one.
_EXCLUDES = {
    "restore": (
        ("backup", "at"),
        ("repository", "full_copy"),
        ("repository", "from_wal"),
        ("repository", "newest_database"),
    )
}
# The first option of a pair has no effect without the second one.
_NEEDS = {"update": (("to", "service"),)}
_POSITIONAL = {"backup": "BACKUP", "service": "SERVICE", _HISTORY: _HISTORY}


def require(arguments: argparse.Namespace) -> None:
    """Raise ConfigError, with both names, when an option has no effect in its combination with the others."""
    given = {name for name, value in vars(arguments).items() if value}
    verb = str(arguments.command)
    _require_mode(MODES.get(verb, {}), given, vars(arguments))
    for first, second in _EXCLUDES.get(verb, ()):
        if {first, second} <= given:
            raise _without_effect(second, first)
    for first, second in _NEEDS.get(verb, ()):
        if first in given and second not in given:
            raise _needs(first, [second])


def _require_mode(modes: Mapping[str, Collection[str]], given: Collection[str], values: Mapping[str, Any]) -> None:
    if not modes:
        return
    mode = _mode(modes, given, values)
    itself = {mode, "service"} if mode == _HISTORY else {mode}
    for option in _known(modes):
        if option not in given or option in itself or option in modes[mode]:
            continue
        if mode:
            raise _without_effect(option, mode)
        raise _needs(option, [each for each, options in modes.items() if option in options])


def _known(modes: Mapping[str, Collection[str]]) -> list[str]:
    """All options that the modes name, and the modes, in a steady order."""
    return list(dict.fromkeys([each for options in modes.values() for each in sorted(options)] + [*modes]))


def _mode(modes: Mapping[str, Collection[str]], given: Collection[str], values: Mapping[str, Any]) -> str:
    if _HISTORY in modes and values["service"] == _HISTORY:
        return _HISTORY
    return next((each for each in modes if each in given), "")


def _without_effect(option: str, other: str) -> ConfigError:
    names = _spelled(option), _spelled(other)
    return ConfigError(
        f"{names[0]} has no effect with {names[1]}",
        f"leave out {names[0]} or {names[1]}",
        left_as="nothing was changed",
    )


def _needs(option: str, others: Collection[str]) -> ConfigError:
    name, needed = _spelled(option), " or ".join(map(_spelled, others))
    return ConfigError(
        f"{name} has no effect without {needed}", f"give {needed}, or leave out {name}", left_as="nothing was changed"
    )


def _spelled(option: str) -> str:
    return _POSITIONAL.get(option) or f"--{option.replace('_', '-')}"
