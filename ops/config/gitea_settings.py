"""[gitea.settings] of the site file: sections and keys of Gitea's app.ini, with their values as the file has them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ops.config import app_ini
from ops.config.app_ini import DEFAULT
from ops.config.owned_settings import owner_of

# A section's keys and their values as text; a value "secret:NAME" is that of a secret.
Sections = Mapping[str, Mapping[str, str]]

REFERENCE = "secret:"
# The prefix of these secrets' names in Secrets Manager and on the host, so that no secret of the suite has the same name.
NAME_PREFIX = "setting-"
_SECRET = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
# As the file, the record of the container and the names of variables take them.
_SECTION = re.compile(r"[a-z0-9_][a-z0-9_.+-]*")
_KEY = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./:@%+-]*")
# A process takes a variable of 128 KiB (execve(2)), and three bytes of UTF-8 a letter of most languages.
_LONGEST = 32 * 1024
_KINDS = "give a text, a number, true or false, or a list of these"


def read(table: Any, name: str, problems: list[str]) -> Sections:
    """Return the settings of a table, each value as text; add a problem for each one that cannot be used.

    A table in a section is the section OUTER.INNER, as TOML writes [gitea.settings.cron.update_mirrors].
    """
    if not isinstance(table, dict):
        problems.append(f"{name} = {table!r} must be a table: write [{name}.SECTION]")
        return {}
    found: dict[str, dict[str, str]] = {}
    for section, key, value in _flat(table, "", name, problems):
        where = f"{name}.{section}.{key}"
        problem = _problem(section, key, value)
        if problem:
            problems.append(f"{where}: {problem}")
        elif key in found.setdefault(section, {}):
            problems.append(f"{where} is set twice, by [{section}] and by tables in one another: keep one")
        else:
            found[section][key] = _as_text(value)
    return {section: found[section] for section in sorted(found) if found[section]}


def secrets_of(settings: Sections) -> tuple[str, ...]:
    """Return the names of the secrets that the settings take their values from, as Secrets Manager has them, behind the site's."""
    values = (value for keys in settings.values() for value in keys.values())
    return tuple(sorted({secret_of(value) for value in values} - {""}))


def secret_of(value: str) -> str:
    """Return the name of the secret that a value is taken from; "" for a value that the site file has."""
    return f"{NAME_PREFIX}{value.removeprefix(REFERENCE)}" if value.startswith(REFERENCE) else ""


def each_of(settings: Sections) -> Iterator[tuple[str, str, str]]:
    """Yield section, key and value of each setting."""
    for section, keys in settings.items():
        for key, value in keys.items():
            yield section, key, value


def _flat(table: Mapping[str, Any], outer: str, name: str, problems: list[str]) -> Iterator[tuple[str, str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{outer}.{key}" if outer else key, name, problems)
        elif outer:
            yield outer, key, value
        else:
            problems.append(
                f"{name}.{key} has no section: write it below [{name}.{DEFAULT}] for a key before the first section"
            )


def _problem(section: str, key: str, value: Any) -> str:
    """Return why a setting cannot be used, with the remedy; "" for one that can."""
    if section != DEFAULT and not _SECTION.fullmatch(section):
        lower = section.lower()
        fitting = f'write the section in lower case, as Gitea does at its start: "{lower}"'
        return fitting if _SECTION.fullmatch(lower) else "give a section of a-z, 0-9 and _ . + -"
    if not _KEY.fullmatch(key):
        return "give a key of letters, digits and _ . / : @ % + -, without spaces"
    owner = owner_of(section, key)
    if owner:
        return f"the suite owns this setting, because {owner.reason}: {owner.remedy}"
    return _problem_of_value(value)


def _problem_of_value(value: Any) -> str:
    if isinstance(value, list):
        return next((problem for problem in map(_problem_of_element, value) if problem), "")
    if not isinstance(value, str | bool | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return _KINDS
    text = _as_text(value)
    if text.startswith(REFERENCE):
        fits = _SECRET.fullmatch(text.removeprefix(REFERENCE))
        return "" if fits else 'name the secret by at most 48 of a-z, 0-9 and -, such as "secret:ldap-password"'
    return _problem_of_text(text)


def _problem_of_element(value: Any) -> str:
    if isinstance(value, list):
        return _KINDS
    text = _as_text(value)
    if "," in text or text != text.strip() or text.startswith(REFERENCE):
        return "give a list of values without commas, without spaces at their ends and without secrets: app.ini separates them by commas"
    return _problem_of_value(value)


def _problem_of_text(text: str) -> str:
    if len(text) > _LONGEST:
        return f"give a value of at most {_LONGEST} characters"
    try:
        app_ini.given(text)
    except app_ini.NotKeptError as error:
        return f"app.ini cannot keep this value, because {error}: give another one"
    return ""


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_as_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
