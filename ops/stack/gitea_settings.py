"""Whether Gitea runs with the settings of the site: its app.ini is compared with what its start was meant to write.

Gitea's start goes on when it cannot set one (modules/setting/config_env.go of 1.22 to 1.27), it keeps what is no longer set,
and users with access to the host may edit the file. Secrets are compared in ops/stack/secrets_in_use.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ops.config import app_ini, settings_file
from ops.config.gitea_settings import each_of, secret_of
from ops.config.schema import Site
from ops.config.setting_variables import decoded, variable
from ops.config.settings_file import RECORD, setting_name
from ops.stack import secrets_in_use
from ops.stack.secrets_in_use import INI
from ops.world import World

SET_BEFORE = Path("gitea/conf/.site-settings")
REMEDY = "run ops settings apply"


def environment(world: World, project: str) -> dict[str, str]:
    """Return the environment that Gitea's running container was made with; raises OpsError when it does not run."""
    # Divided by NUL, because a value may have several lines.
    output = world.containers.execute(project, "gitea", ["env", "-0"]).output
    return dict(each.split("=", 1) for each in output.split("\0") if "=" in each)


def differences(site: Site, environment: Mapping[str, str], data: Path) -> tuple[str, ...]:
    """Return the settings in which Gitea differs from the site file, without values; () while there is no app.ini.

    ``environment`` is that of Gitea's container, ``data`` the folder of Gitea's data.
    """
    if not (data / INI).is_file():
        return ()
    found = secrets_in_use.parse((data / INI).read_text(encoding="utf-8", errors="replace"))
    named = (*_not_given(site, environment), *_not_kept(environment, found), *_not_removed(environment, found, data))
    return tuple(dict.fromkeys(setting_name(*each) for each in named))


def _not_given(site: Site, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the settings that the container was not given as the site file has them, or that the file no longer has."""
    for (section, key), value in settings_file.chosen(site).items():
        from_file = bool(secret_of(value))
        text = environment.get(variable(section, key, from_file=from_file))
        if text is None or not (from_file or text == app_ini.given(value)):
            yield section, key
    chosen = {(section, key) for section, key, _ in each_of(site.gitea.settings)}
    yield from (each for each in _recorded(environment.get(RECORD, "")) if each not in chosen)


def _not_kept(environment: Mapping[str, str], found: app_ini.Settings) -> Iterator[tuple[str, str]]:
    """Yield the settings that the container was given and that app.ini does not have so."""
    for name, value in environment.items():
        setting = decoded(name)
        if setting and not setting[2] and found.get(setting[:2]) != app_ini.kept(value):
            yield setting[:2]


def _not_removed(environment: Mapping[str, str], found: app_ini.Settings, data: Path) -> Iterator[tuple[str, str]]:
    """Yield the settings of an earlier start that should have been removed from app.ini."""
    file = data / SET_BEFORE
    before = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    given = {setting[:2] for setting in map(decoded, environment) if setting}
    yield from (each for each in _recorded(before) if each not in given and each in found)


def _recorded(text: str) -> Iterator[tuple[str, str]]:
    """Yield section and key of each line of a record of the container (compose/gitea/remove-old-settings.sh)."""
    for line in filter(None, text.splitlines()):
        section, _, key = line.partition(" ")
        yield section, key
