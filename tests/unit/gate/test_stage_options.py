"""The options of deploy-e2e are checked before any stage runs, and a narrowed selection of tests proves nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import tomli_w

from ground import __main__ as ground
from ops.errors import ConfigError, Refused
from ops.gate import stage_options
from tests.support import fakes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sites").mkdir()
    for name in ("local", "production"):
        (tmp_path / f"sites/{name}.toml").write_text(tomli_w.dumps(fakes.site_document()))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--foo",), "--foo"),
        (("--rehearse", "--foo=1"), "--foo=1"),
        (("-k", "one"), "-k"),
        (("pytest", "-k", "one"), "pytest"),
        (("tests/e2e/test_web.py",), "tests/e2e/test_web.py"),
        (("--keep", "no"), "no"),
        (("--reh",), "--reh"),
        (("--site",), "--site"),
        (("--site", "--keep"), "--site"),
        (("--site=",), "--site="),
    ],
)
def test_a_wrong_option_is_named_with_exit_code_2(options: tuple[str, ...], named: str, root: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        stage_options.require(options, root)
    assert caught.value.message in {f"deploy-e2e has no option {named}", f"{named} of deploy-e2e needs a site file"}
    assert caught.value.hint == "give --rehearse, --keep or --site FILE behind --"
    assert caught.value.left_as == "no stage ran"
    assert not stage_options.are_valid(options)


@pytest.mark.parametrize(
    "options",
    [(), ("--rehearse",), ("--rehearse", "--keep"), ("--site", "sites/production.toml"), ("--site=sites/production.toml",),
     ("--rehearse", "--site", "sites/local.toml", "--keep")],
)  # fmt: skip
def test_the_stage_s_own_options_pass(options: tuple[str, ...], root: Path) -> None:
    stage_options.require(options, root)
    assert stage_options.are_valid(options)


@pytest.mark.parametrize("content", [None, "schema = 1\n", "["])
def test_a_missing_or_wrong_site_file_is_reported_before_any_stage_runs(content: str | None, root: Path) -> None:
    if content is not None:
        (root / "sites/other.toml").write_text(content)
    for given in (("--site", "sites/other.toml"), (f"--site={root}/sites/other.toml",)):
        with pytest.raises(ConfigError, match=r"other\.toml|missing"):
            stage_options.require(given, root)


def test_disaster_tests_of_another_site_than_the_local_one_are_refused_before_any_stage_runs(root: Path) -> None:
    with pytest.raises(Refused, match=r"not on sites/production\.toml") as caught:
        stage_options.require(("--rehearse", "--site", "sites/production.toml"), root)
    assert caught.value.exit_code == 4


def test_keep_has_no_effect_on_a_site_that_stays_anyway(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"--keep has no effect with --site sites/production\.toml"):
        stage_options.require(("--site", "sites/production.toml", "--keep"), root)


def test_the_gate_knows_exactly_the_options_of_the_stage_s_command() -> None:
    (commands,) = (each for each in ground._parser()._actions if isinstance(each, argparse._SubParsersAction))
    options = {each.option_strings[-1]: each.nargs != 0 for each in commands.choices["deploy-e2e"]._actions}
    del options["--help"]
    assert options == stage_options.OPTIONS
