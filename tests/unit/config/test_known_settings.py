"""The settings that versions of Gitea document, and the warning for each other one."""

from __future__ import annotations

import pytest

from ops.cli import setting_list
from ops.config import known_settings
from ops.config.known_settings import FOLDER, list_for, warnings

EXAMPLE = """\
; prose with one mark
;; prose = with two marks
;APP_NAME = Name
[server]
DOMAIN = localhost ; comment
;HTTP_PORT=80
;[log.%(WriterMode)]
;LEVEL=
;[queue.mail]
;LENGTH = 1
;[git.config]
;core.x = 1
; [actions]
;ENABLED = true
"""
SHEET = """\
# Title
- `NOT_A_KEY`: no section yet
## Overall (`DEFAULT`)
- `RUN_MODE`: **prod**: a text
## Queue (`queue` and `queue.*`)
- `TYPE`: **level**: `level` or `redis`
  - `redis`: a value
## Signing (`repository.signing`)
- `SIGNING_NAME` &amp; `SIGNING_EMAIL`: both
### Log (`log`)
- `logger.access.MODE`: a key in lower case
- `MAX_IDLE_CONNS` **2**: without a colon
## Markup (`markup.external-render-name`)
- RENDER\\_COMMAND: without backticks
"""


def test_each_list_is_complete_and_in_its_own_format() -> None:
    assert known_settings.versions() == ("1.22", "1.26", "1.27")
    for version in known_settings.versions():
        text = (FOLDER / f"{version}.txt").read_text()
        known = known_settings.list_from(text, version)
        assert sum(map(len, known.sections.values())) > 600
        sources = [line.removeprefix("# Source: ") for line in text.splitlines() if line.startswith("# Source: ")]
        assert sources
        sections = {name: set(keys) for name, keys in known.sections.items()}
        assert setting_list.as_text(version, sources, sections) == text


@pytest.mark.parametrize(
    ("numbers", "version"),
    [
        (None, "1.27"),
        ((1, 21, 11), "1.22"),
        ((1, 22, 6), "1.22"),
        ((1, 25, 5), "1.22"),
        ((1, 26, 4), "1.26"),
        ((28, 1, 0), "1.27"),
    ],
)
def test_a_version_has_the_newest_list_that_is_not_newer(numbers: tuple[int, ...] | None, version: str) -> None:
    assert list_for(numbers).version == version


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("service", "REQUIRE_SIGNIN_VIEW"),
        ("DEFAULT", "APP_NAME"),
        # Sections and keys that an operator names.
        ("git.config", "core.autocrlf"),
        ("repository.mimetype_mapping", ".apk"),
        ("queue.mail", "LENGTH"),
        ("markup.sanitizer.tex", "REGEXP"),
        ("markup.asciidoc", "RENDER_COMMAND"),
        # A section has the keys of those above it.
        ("cron.update_checker", "SCHEDULE"),
        ("cron.of_the_future", "SCHEDULE"),
    ],
)
def test_a_documented_setting_has_no_warning(section: str, key: str) -> None:
    assert warnings({section: {key: "1"}}) == ()


@pytest.mark.parametrize(
    ("section", "key", "near"),
    [
        ("service", "REQUIRE_SIGNIN_VEIW", "service.REQUIRE_SIGNIN_VIEW"),
        ("service", "require_signin_view", "service.REQUIRE_SIGNIN_VIEW"),
        ("servce", "LANDING_PAGE", "server.LANDING_PAGE"),
        ("service", "MAX_RESPONSE_ITEMS", "api.MAX_RESPONSE_ITEMS"),
        ("srevice", "REQUIRE_SIGNIN_VEW", "service.REQUIRE_SIGNIN_VIEW"),
    ],
)
def test_an_unknown_setting_is_warned_of_with_the_nearest_name(section: str, key: str, near: str) -> None:
    assert warnings({section: {key: "1"}}) == (
        f"warning: gitea.settings.{section}.{key}: Gitea 1.27 does not document it; did you mean gitea.settings.{near}?",
    )


def test_a_setting_like_no_other_is_warned_of_alone() -> None:
    assert warnings({"foo": {"BAR": "1"}}) == ("warning: gitea.settings.foo.BAR: Gitea 1.27 does not document it",)


def test_a_setting_of_another_version_is_warned_of_with_that_version() -> None:
    assert warnings({"qos": {"ENABLED": "1"}}, (1, 22, 6)) == (
        "warning: gitea.settings.qos.ENABLED: Gitea 1.22 does not document it; Gitea 1.27 does",
    )
    assert warnings({"qos": {"ENABLED": "1"}}, (1, 26, 4)) == ()


def test_a_site_without_settings_has_no_warning() -> None:
    assert warnings({}) == ()


def test_a_list_is_made_of_an_example_file_with_the_settings_that_are_commented_out() -> None:
    assert setting_list.from_example(EXAMPLE) == {
        "DEFAULT": {"APP_NAME"},
        "server": {"DOMAIN", "HTTP_PORT"},
        "log.*": {"LEVEL"},
        "queue.*": {"LENGTH"},
        "git.config": {"*"},
        "actions": {"ENABLED"},
    }


def test_a_list_is_made_of_the_documentation_s_headings_and_lists() -> None:
    assert setting_list.from_sheet(SHEET) == {
        "DEFAULT": {"RUN_MODE"},
        "queue": {"TYPE"},
        "queue.*": {"TYPE"},
        "repository.signing": {"SIGNING_NAME", "SIGNING_EMAIL"},
        "log": {"logger.access.MODE", "MAX_IDLE_CONNS"},
        "markup.*": {"RENDER_COMMAND"},
    }


def test_two_sources_are_merged_into_one_list_of_the_version() -> None:
    found = setting_list.merged([setting_list.from_example(EXAMPLE), setting_list.from_sheet(SHEET)])
    text = setting_list.as_text("1.28", ["one", "two"], found)
    assert text.startswith(
        "# The settings that Gitea 1.28 documents: sections and keys, and * for names that an operator chooses.\n"
        "# Source: one\n# Source: two\n\n[DEFAULT]\nAPP_NAME\nRUN_MODE\n\n[actions]\n"
    )
    assert known_settings.list_from(text, "1.28").has("queue.mail", "TYPE")
