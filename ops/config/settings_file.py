"""The Compose file with Gitea's settings of a site: ``ops settings apply`` writes it beside compose.yaml, which it adds to.

Its environment becomes Gitea's app.ini when the container starts (ops/config/setting_variables.py). It is JSON, which Compose
reads as YAML: no other form of a Compose file keeps every value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ops.config import app_ini
from ops.config.app_ini import DEFAULT
from ops.config.gitea_settings import each_of, secret_of, secrets_of
from ops.config.schema import Site
from ops.config.setting_variables import decoded, variable

FILE = "gitea-settings.json"
# The settings of the file that the container removes from app.ini once they are gone (compose/gitea/remove-old-settings.sh).
RECORD = "SITE_SETTINGS"
_MOUNTED = "/run/secrets"
# YAML takes every other character in a quotation as it is (YAML 1.2, 5.1); at the two separators it would fold the line.
_ESCAPED = {ord(each): f"\\u{ord(each):04x}" for each in "\u2028\u2029\ufeff\ufffe\uffff\x7f\x85"}


def chosen(site: Site) -> dict[tuple[str, str], str]:
    """Return each setting of app.ini that the site file chooses, by section and key; "secret:NAME" for a secret's value."""
    limit = str(site.gitea.upload_limit_mib)
    return {
        (DEFAULT, "APP_NAME"): site.gitea.title,
        ("attachment", "MAX_SIZE"): limit,
        ("repository.upload", "FILE_MAX_SIZE"): limit,
        ("repository.release", "FILE_MAX_SIZE"): limit,
        **{(section, key): value for section, key, value in each_of(site.gitea.settings)},
    }


def compose_file(site: Site, secrets_directory: str) -> str:
    """Return the text of the Compose file; ``secrets_directory`` is the folder with the secrets' files on the host."""
    environment = {RECORD: "\n".join(sorted(f"{section} {key}" for section, key, _ in each_of(site.gitea.settings)))}
    for (section, key), value in chosen(site).items():
        name = secret_of(value)
        text = f"{_MOUNTED}/{name}" if name else app_ini.given(value)
        environment[variable(section, key, from_file=bool(name))] = text.replace("$", "$$")
    names = secrets_of(site.gitea.settings)
    gitea: dict[str, Any] = {"environment": environment}
    document: dict[str, Any] = {"services": {"gitea": gitea}}
    if names:
        gitea["secrets"] = list(names)
        document["secrets"] = {name: {"file": f"{secrets_directory}/{name}"} for name in names}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text.translate(_ESCAPED)}\n"


def changed_settings(before: str, after: str) -> tuple[str, ...]:
    """Return the settings that differ between two texts of the file, such as ``[service] REQUIRE_SIGNIN_VIEW``."""
    old, new = _environment(before), _environment(after)
    names = (name for name in sorted({*old, *new}) if name != RECORD and old.get(name) != new.get(name))
    return tuple(dict.fromkeys(_named(name) for name in names))


def _named(name: str) -> str:
    found = decoded(name)
    return setting_name(*found[:2]) if found else name


def setting_name(section: str, key: str) -> str:
    """Return a setting's name for a message."""
    return key if section == DEFAULT else f"[{section}] {key}"


def _environment(text: str) -> Mapping[str, str]:
    """Return the variables of a text of the file; empty for another text."""
    try:
        found = json.loads(text)["services"]["gitea"]["environment"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {str(name): str(value) for name, value in found.items()}
