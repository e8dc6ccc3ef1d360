"""Gitea's app.ini has the settings of the site file, or a check names those that differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ops.config import app_ini, settings_file
from ops.config.schema import Site
from ops.config.setting_variables import decoded
from ops.stack import gitea_settings, health
from ops.stack.secrets_in_use import INI
from ops.world.containers import Ran
from tests.support import fakes

SETTINGS = {
    "service": {"REQUIRE_SIGNIN_VIEW": True},
    "ui.meta": {"DESCRIPTION": "\"$a\" # b\n'c'"},
    "email.incoming": {"PASSWORD": "secret:imap"},
}
SITE = fakes.site_with_settings(SETTINGS)


def environment(site: Site) -> dict[str, str]:
    """Return the variables of Gitea's container, made from the site's Compose file and from compose.yaml."""
    document = json.loads(settings_file.compose_file(site, "/run/s"))
    found: dict[str, str] = document["services"]["gitea"]["environment"]
    return {name: value.replace("$$", "$") for name, value in found.items()} | {
        "PATH": "/bin",
        "GITEA__server__ROOT_URL": "https://git.example.org/",
        "GITEA__database__PASSWD__FILE": "/run/secrets/database-password",
    }


def start(data: Path, given: dict[str, str]) -> None:
    """Write app.ini and the record as a start of the container does."""
    lines = [
        f"[{setting[0]}]\n{setting[1]} = {app_ini.written(value)}\n"
        for name, value in given.items()
        if (setting := decoded(name)) and not setting[2]
    ]
    (data / "gitea/conf").mkdir(parents=True, exist_ok=True)
    (data / INI).write_text("".join(lines))
    (data / gitea_settings.SET_BEFORE).write_text(f"{given[settings_file.RECORD]}\n")


def edit(data: Path, old: str, new: str) -> None:
    file = data / INI
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_gitea_that_was_started_with_the_site_s_settings_differs_in_none(tmp_path: Path) -> None:
    start(tmp_path, environment(SITE))
    assert gitea_settings.differences(SITE, environment(SITE), tmp_path) == ()


def test_before_the_first_start_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert gitea_settings.differences(SITE, environment(SITE), tmp_path) == ()


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("REQUIRE_SIGNIN_VIEW = true", "REQUIRE_SIGNIN_VIEW = false", "[service] REQUIRE_SIGNIN_VIEW"),
        ("REQUIRE_SIGNIN_VIEW = true\n", "", "[service] REQUIRE_SIGNIN_VIEW"),
        ("APP_NAME = Gitea", "APP_NAME = Other", "APP_NAME"),
        # One that compose.yaml sets.
        ("ROOT_URL = https://git.example.org/", "ROOT_URL = http://localhost/", "[server] ROOT_URL"),
        ("$a", "$b", "[ui.meta] DESCRIPTION"),
    ],
)
def test_an_edited_app_ini_is_named_by_its_setting(tmp_path: Path, old: str, new: str, name: str) -> None:
    start(tmp_path, environment(SITE))
    edit(tmp_path, old, new)
    assert gitea_settings.differences(SITE, environment(SITE), tmp_path) == (name,)


def test_a_container_of_an_earlier_site_file_is_named_by_what_changed(tmp_path: Path) -> None:
    given = environment(SITE)
    start(tmp_path, given)
    later = fakes.site_with_settings(
        {"service": {"REQUIRE_SIGNIN_VIEW": "expensive"}, "email.incoming": {"PASSWORD": "secret:imap"}}, title="New"
    )
    assert gitea_settings.differences(later, given, tmp_path) == (
        "APP_NAME",
        "[service] REQUIRE_SIGNIN_VIEW",
        "[ui.meta] DESCRIPTION",
    )


def test_a_setting_that_the_start_did_not_remove_is_named(tmp_path: Path) -> None:
    start(tmp_path, environment(SITE))
    later = fakes.site_with_settings({each: keys for each, keys in SETTINGS.items() if each != "service"})
    # The record of the last start has the setting, and so has app.ini.
    assert gitea_settings.differences(later, environment(later), tmp_path) == ("[service] REQUIRE_SIGNIN_VIEW",)
    edit(tmp_path, "[service]\nREQUIRE_SIGNIN_VIEW = true\n", "")
    assert gitea_settings.differences(later, environment(later), tmp_path) == ()


def test_a_damaged_app_ini_differs_in_every_setting(tmp_path: Path) -> None:
    start(tmp_path, environment(SITE))
    (tmp_path / INI).write_text('A = """begin\n')
    assert "[server] ROOT_URL" in gitea_settings.differences(SITE, environment(SITE), tmp_path)


def test_the_environment_of_the_container_is_read_with_its_line_breaks() -> None:
    world: Any = fakes.FakeWorld()
    world.containers.answers["gitea"] = lambda argv: Ran(0, "A=1\0B=two\nlines=\0C=\0")
    assert gitea_settings.environment(world, "project") == {"A": "1", "B": "two\nlines=", "C": ""}
    assert world.containers.executed == [("gitea", ["env", "-0"], "")]


def test_the_health_of_a_site_whose_gitea_has_other_settings_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DATA", tmp_path)
    monkeypatch.setattr(health, "SECRETS", tmp_path / "secrets")
    world: Any = fakes.FakeWorld()
    text = "\0".join(f"{name}={value}" for name, value in environment(SITE).items())
    world.containers.answers["gitea"] = lambda argv: Ran(0, text)
    start(tmp_path, environment(SITE))
    assert health._settings(SITE, world)[1].healthy
    edit(tmp_path, "= true", "= false")
    probe = health._settings(SITE, world)[1]
    assert (probe.name, probe.healthy, probe.remedy) == ("settings of Gitea", False, "run ops settings apply")
    assert probe.seen == "app.ini differs from the site file: [service] REQUIRE_SIGNIN_VIEW"
    del world.containers.answers["gitea"]
    assert health._settings(SITE, world)[1].seen == "gitea is not running"
