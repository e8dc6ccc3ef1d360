"""[gitea.settings] of a site file, and the Compose file that it becomes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from ops.config import app_ini, settings_file
from ops.config.gitea_settings import secrets_of
from ops.config.load import site_from
from ops.config.owned_settings import OWNERS, owner_of
from ops.config.schema import Site
from ops.config.setting_variables import decoded, variable
from ops.config.tool_variables import host_document
from ops.errors import ConfigError
from tests.support import fakes
from tests.support.drawn_sites import accepted
from tests.unit.config.test_app_ini import TEXTS

ROOT = Path(__file__).parents[3]
# Values of compose.yaml that a site may replace.
REPLACEABLE = {
    ("service", "DISABLE_REGISTRATION"),
    ("session", "PROVIDER"),
    ("log", "LEVEL"),
    ("cron.update_checker", "ENABLED"),
}


def site(text: str) -> Site:
    """Return the small site with the settings of a TOML text."""
    return fakes.site_with_settings(tomllib.loads(text))


def problem(text: str) -> str:
    """Return the problems of the small site with these settings."""
    with pytest.raises(ConfigError) as refused:
        site(text)
    return refused.value.message


def environment(one: Site) -> dict[str, str]:
    """Return the variables that Compose gives to Gitea's container."""
    found: dict[str, Any] = yaml.safe_load(settings_file.compose_file(one, "/run/s"))["services"]["gitea"]
    return {name: value.replace("$$", "$") for name, value in found["environment"].items()}


def test_every_kind_of_value_becomes_text_as_gitea_reads_it() -> None:
    found = site(
        '[service]\nREQUIRE_SIGNIN_VIEW = true\n[cron.git_gc_repos]\nENABLED = false\nTIMEOUT = "60s"\n'
        '["cron.gc_lfs"]\nPROPORTION_TO_CHECK_PER_REPO = 0.6\nNUMBER_TO_CHECK_PER_REPO = 100\n'
        '[repository."pull-request"]\nCLOSE_KEYWORDS = ["close", "fix"]\n[DEFAULT]\nX = ""\n'
    ).gitea.settings
    assert found == {
        "DEFAULT": {"X": ""},
        "cron.gc_lfs": {"PROPORTION_TO_CHECK_PER_REPO": "0.6", "NUMBER_TO_CHECK_PER_REPO": "100"},
        "cron.git_gc_repos": {"ENABLED": "false", "TIMEOUT": "60s"},
        "repository.pull-request": {"CLOSE_KEYWORDS": "close,fix"},
        "service": {"REQUIRE_SIGNIN_VIEW": "true"},
    }


def test_the_host_reads_the_same_settings_from_its_own_site_file() -> None:
    one = site('[service]\nREQUIRE_SIGNIN_VIEW = true\n[email.incoming]\nPASSWORD = "secret:imap"\n')
    assert site_from(json.loads(json.dumps(host_document(one)))) == one


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("X = 1\n", "gitea.settings.X has no section: write it below [gitea.settings.DEFAULT]"),
        ("[Service]\nA = 1\n", 'write the section in lower case, as Gitea does at its start: "service"'),
        ('["a b"]\nA = 1\n', "give a section of a-z"),
        ('[a]\n"b c" = 1\n', "give a key of letters"),
        ('[a]\n"" = 1\n', "give a key of letters"),
        ("[a]\nB = 2026-12-01\n", "give a text, a number, true or false"),
        ("[a]\nB = nan\n", "give a text, a number, true or false"),
        ("[a]\nB = [[1]]\n", "give a text, a number, true or false"),
        ("[a]\nB = [{}]\n", "give a text, a number, true or false"),
        ('[a]\nB = ["c,d"]\n', "without commas"),
        ('[a]\nB = ["secret:c"]\n', "without secrets"),
        ('[a]\nB = "secret:C"\n', 'such as "secret:ldap-password"'),
        ('[a]\nB = "secret:"\n', 'such as "secret:ldap-password"'),
        ('[a]\nB = "bell\\u0007"\n', "app.ini cannot keep this value, because it has a control character"),
        (f'[a]\nB = "{"x" * 40000}"\n', "at most 32768 characters"),
        ('[a.b]\nC = 1\n["a.b"]\nC = 2\n', "is set twice"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_with_the_remedy(text: str, named: str) -> None:
    assert named in problem(text)


def test_settings_that_are_no_table_are_refused() -> None:
    document = fakes.site_document()
    with pytest.raises(ConfigError, match=re.escape("write [gitea.settings.SECTION]")):
        site_from(document | {"gitea": {**document["gitea"], "settings": 1}})


@pytest.mark.parametrize(
    ("section", "key", "reason", "remedy"),
    [
        ("server", "ROOT_URL", "it follows from the site's domain", "set domain instead"),
        ("DEFAULT", "APP_NAME", "it is the site's title", "set gitea.title instead"),
        ("database", "HOST", "the database is the site's own PostgreSQL", "remove it"),
        ("server", "SSH_PORT", "it is the port of git over ssh", "set gitea.ssh_port instead"),
        ("security", "SECRET_KEY_URI", "it is a secret that the suite or Gitea makes", "ops secrets rotate NAME"),
        ("mailer", "SMTP_ADDR", "mails go through the site's mail server", "set mail.sender"),
        ("log", "MODE", "the log goes to the container's output", "log.LEVEL may be set"),
        ("lfs", "STORAGE_TYPE", "backups, restores and updates know Gitea's files", "host.data_gib"),
        ("storage.minio", "MINIO_BUCKET", "backups, restores and updates know Gitea's files", "host.data_gib"),
        ("service", "ENABLE_REVERSE_PROXY_AUTHENTICATION", "could sign in as anybody", "authentication source"),
        ("attachment", "max_size", "nginx has the same limit", "set gitea.upload_limit_mib instead"),
        ("metrics", "TOKEN", "it is a secret", "ops secrets rotate NAME"),
    ],
)
def test_a_setting_that_the_suite_owns_is_refused_with_reason_and_alternative(
    section: str, key: str, reason: str, remedy: str
) -> None:
    message = problem(f'["{section}"]\n{key} = "x"\n')
    assert f"gitea.settings.{section}.{key}: the suite owns this setting, because " in message
    assert reason in message
    assert remedy in message


def test_every_value_of_compose_yaml_is_owned_or_may_be_replaced() -> None:
    compose = yaml.safe_load((ROOT / "compose/compose.yaml").read_text())
    given_there = {setting[:2] for setting in map(decoded, compose["services"]["gitea"]["environment"]) if setting}
    assert len(given_there) > 20
    assert {each for each in given_there if not owner_of(*each)} == REPLACEABLE


def test_what_the_site_file_sets_by_other_keys_is_owned() -> None:
    assert all(owner_of(*setting) for setting in settings_file.chosen(fakes.site()))


def test_each_owner_has_a_reason_and_an_imperative() -> None:
    for owner in OWNERS:
        assert owner.reason[0].islower()
        assert owner.remedy.startswith(("set ", "remove "))


def test_the_compose_file_gives_gitea_title_limits_settings_and_secrets() -> None:
    one = site('[service]\nREQUIRE_SIGNIN_VIEW = true\n[email.incoming]\nPASSWORD = "secret:imap"\n')
    document = json.loads(settings_file.compose_file(one, "/run/s"))
    assert document["secrets"] == {"setting-imap": {"file": "/run/s/setting-imap"}}
    assert document["services"]["gitea"]["secrets"] == ["setting-imap"]
    assert document["services"]["gitea"]["environment"] == {
        "GITEA____APP_NAME": "Gitea",
        "GITEA__attachment__MAX_SIZE": "512",
        "GITEA__repository_0X2E_upload__FILE_MAX_SIZE": "512",
        "GITEA__repository_0X2E_release__FILE_MAX_SIZE": "512",
        "GITEA__service__REQUIRE_SIGNIN_VIEW": "true",
        "GITEA__email_0X2E_incoming__PASSWORD__FILE": "/run/secrets/setting-imap",
        "SITE_SETTINGS": "email.incoming PASSWORD\nservice REQUIRE_SIGNIN_VIEW",
    }
    assert secrets_of(one.gitea.settings) == ("setting-imap",)


def test_a_site_without_settings_needs_no_secret() -> None:
    document = json.loads(settings_file.compose_file(fakes.site(), "/run/s"))
    assert document.keys() == {"services"}
    assert document["services"]["gitea"].keys() == {"environment"}


@given(TEXTS)
def test_every_accepted_value_reaches_app_ini_through_compose(value: str) -> None:
    document = fakes.site_document()
    with_value = document | {"gitea": {**document["gitea"], "settings": {"ui.meta": {"DESCRIPTION": value}}}}
    # "secret:" names no value, and the second kind has its own test.
    assume(not value.startswith("secret:") and accepted(with_value))
    one = site_from(with_value)
    text = environment(one)[variable("ui.meta", "DESCRIPTION")]
    assert app_ini.parse(f"[ui.meta]\nDESCRIPTION = {app_ini.written(text)}\n") == {("ui.meta", "DESCRIPTION"): value}


@given(st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_number_and_truth_value_is_accepted(value: bool | int | float) -> None:
    one = fakes.site_with_settings({"ui": {"X": value}})
    assert one.gitea.settings["ui"]["X"] == str(value).lower()


def test_the_changed_settings_are_named_without_values() -> None:
    before = settings_file.compose_file(site('[a.b]\nSAME = 1\nGONE = 1\nOTHER = 1\nS = "x"\n'), "/run/s")
    after = settings_file.compose_file(site('[a.b]\nSAME = 1\nNEW = 1\nOTHER = 2\nS = "secret:x"\n'), "/run/s")
    assert settings_file.changed_settings(before, after) == ("[a.b] GONE", "[a.b] NEW", "[a.b] OTHER", "[a.b] S")
    assert settings_file.changed_settings(before, before) == ()
    titled = settings_file.compose_file(fakes.site(), "/run/s")
    assert "APP_NAME" in settings_file.changed_settings("{}\n", titled)
