"""The dialect of Gitea's app.ini, and the names of the variables that set its keys."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.config import app_ini
from ops.config.app_ini import DEFAULT, NotKeptError
from ops.config.setting_variables import decoded, variable

STAND_IN = Path(__file__).parents[3] / "ground/images/gitea"
# Letters that mean something in the file, in Compose, in a shell or in Gitea's references to other keys.
TEXTS = st.text(st.sampled_from("\"'`#;\\ \n\tab=%(){}[]$:,é\u2028\U0001f600"), max_size=12) | st.text(max_size=20)
NAMES = st.text("abcXYZ_0x2E.-:/@+", min_size=1, max_size=12)


@pytest.fixture(scope="module")
def stand_in() -> Any:
    """The stand-in's own implementation, which the image runs."""
    sys.path.insert(0, str(STAND_IN))
    try:
        return import_module("gitea_standin.prepare")
    finally:
        sys.path.remove(str(STAND_IN))


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain text", "plain text"),
        ("50%", "50%"),
        ("a # b; c", "`a # b; c`"),
        (" spaces ", '" spaces "'),
        ("two\nlines", '"""two\nlines"""'),
        ("a`b", '"""a`b"""'),
        ("", ""),
        ("C:\\dir\\", "C:\\dir\\"),
    ],
)
def test_a_value_is_written_as_gitea_s_library_writes_it(value: str, line: str) -> None:
    assert app_ini.written(value) == line
    assert app_ini.kept(value) == value


@pytest.mark.parametrize("value", ['"quoted"', "'quoted'", '"""', '"""begin', '""', ' a"b" ', '""x '])
def test_quotation_marks_that_the_file_would_lose_are_kept_in_three_others(value: str) -> None:
    assert app_ini.kept(value) != value
    assert app_ini.given(value) == f'"""{value}"""'
    assert app_ini.kept(app_ini.given(value)) == value


@pytest.mark.parametrize("value", ['"""a"""\nb', "bell\a", "nul\0", "lone \ud800"])
def test_a_value_that_no_text_keeps_is_refused(value: str) -> None:
    with pytest.raises(NotKeptError):
        app_ini.given(value)


def test_a_file_of_gitea_is_read_by_section_and_key() -> None:
    text = (
        "; a comment\nAPP_NAME = Gitea: a = b ; cut off\n\n[server]\n# other = comment\nDOMAIN=git.example.org\n"
        'SSH: yes\n`a=b` = 1\nLINES = """one\ntwo # kept\n"""\n[DEFAULT]\nRUN_MODE = \'prod\'\n[empty]\nno delimiter\n'
    )
    assert app_ini.parse(text) == {
        (DEFAULT, "APP_NAME"): "Gitea: a = b",
        ("server", "DOMAIN"): "git.example.org",
        ("server", "SSH"): "yes",
        ("server", "a=b"): "1",
        ("server", "LINES"): "one\ntwo # kept\n",
        (DEFAULT, "RUN_MODE"): "prod",
    }


def test_a_quotation_without_an_end_is_no_file() -> None:
    with pytest.raises(NotKeptError):
        app_ini.parse('A = """begin\nB = 1\n')


@pytest.mark.parametrize(
    ("section", "key", "name"),
    [
        (DEFAULT, "APP_NAME", "GITEA____APP_NAME"),
        ("service", "DISABLE_REGISTRATION", "GITEA__service__DISABLE_REGISTRATION"),
        ("cron.update_checker", "ENABLED", "GITEA__cron_0X2E_update_checker__ENABLED"),
        ("repository.pull-request", "A", "GITEA__repository_0X2E_pull_0X2D_request__A"),
        ("repository.mimetype_mapping", ".apk", "GITEA__repository_0X2E_mimetype_mapping___0X2E_apk"),
    ],
)
def test_a_setting_s_variable_has_the_name_that_gitea_documents(section: str, key: str, name: str) -> None:
    assert variable(section, key) == name
    assert decoded(name) == (section, key, False)
    assert decoded(f"{name}__FILE") == (section, key, True)


@pytest.mark.parametrize("name", ["PATH", "GITEA_CUSTOM", "GITEA__", "GITEA__section", "GITEA__section__"])
def test_another_variable_sets_nothing(name: str) -> None:
    assert decoded(name) is None


@given(NAMES.map(str.lower), NAMES, st.booleans())
def test_every_name_survives_its_variable(section: str, key: str, from_file: bool) -> None:
    name = variable(section, key, from_file=from_file)
    assert name.isascii()
    assert name.replace("_", "").isalnum()
    assert decoded(name) == (section, key, from_file)


@given(st.dictionaries(st.tuples(st.sampled_from(["a.b", "c-d", "e"]), NAMES), TEXTS, max_size=4))
def test_every_value_that_is_accepted_survives_gitea_s_start(
    stand_in: Any, values: Mapping[tuple[str, str], str]
) -> None:
    environment, meant = {}, {}
    for (section, key), value in values.items():
        try:
            environment[variable(section, key)] = app_ini.given(value)
        except NotKeptError:
            continue
        meant[section, key] = value
    first = stand_in.render(stand_in._with_environment(stand_in.parse(""), environment))
    # The next start reads the file and writes it again.
    second = stand_in.render(stand_in._with_environment(stand_in.parse(first), environment))
    assert app_ini.parse(first) == app_ini.parse(second) == meant


@given(st.text(st.sampled_from("\"'`#;\\ \n=:A[]"), max_size=25))
def test_ops_and_the_stand_in_read_any_file_alike(stand_in: Any, text: str) -> None:
    try:
        found = app_ini.parse(text)
    except NotKeptError:
        with pytest.raises(OSError, match="missing closing key quote"):
            stand_in.parse(text)
        return
    sections = stand_in.parse(text).items()
    assert found == {(section or DEFAULT, key): value for section, keys in sections for key, value in keys.items()}
