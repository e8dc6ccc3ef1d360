"""The results of a run of mutants: the required percentage, and the accepted survivors."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.mutation import outcome
from tests.mutation.outcome import Result

ROOT = Path(__file__).parents[2]
KEY = ("plan", "a < b", "a <= b", 1)
OTHER = ("plan", "a < b", "a <= b", 2)
DOCUMENT = """# Mutation testing

- `outside`: below no module

## ops/retention.py

A paragraph.

- `plan`: `a < b` ->
  `a <= b`: both are
  the same here.
- `plan`: `a < b` -> `a <= b` (2): a reason.

## Other

- no entry
"""


def test_accepted_survivors_are_read_with_their_reasons_below_the_path_of_their_module() -> None:
    assert outcome.accepted_from(DOCUMENT) == {"ops/retention.py": {KEY: "both are the same here.", OTHER: "a reason."}}


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_an_entry_is_read_as_it_was_written(key: outcome.Key) -> None:
    text = f"# ops/a.py\n\n{outcome.entry(key, 'a reason.')}\n"
    assert outcome.accepted_from(text) == {"ops/a.py": {key: "a reason."}}


@pytest.mark.parametrize("entry", ["- `plan`: `a` -> `b`", "- `plan`: `a` -> `b`: ", "- plan: a -> b: reason"])
def test_an_entry_without_a_reason_or_of_another_form_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match=r"ops/a\.py"):
        outcome.accepted_from(f"# ops/a.py\n\n{entry}\n")


def test_a_module_passes_with_its_share_killed_and_every_survivor_listed() -> None:
    result = Result("ops/a.py", 20, (KEY, OTHER), 1.0)
    assert (result.killed, result.percent) == (18, 90.0)
    assert outcome.failures([result], {"ops/a.py": {KEY: "", OTHER: ""}}, 90) == ()


def test_each_failure_is_reported() -> None:
    low = Result("ops/a.py", 10, (KEY, OTHER), 1.0)
    assert outcome.failures([low], {"ops/a.py": [KEY, OTHER]}, 90) == (
        "ops/a.py: 80.0 % of the mutants are killed, at least 90 % are required",
    )
    unlisted = Result("ops/a.py", 100, (KEY,), 1.0)
    assert outcome.failures([unlisted], {}, 90) == (
        "ops/a.py: this survivor is not listed: - `plan`: `a < b` -> `a <= b`: REASON.",
    )
    stale = Result("ops/a.py", 100, (), 1.0)
    assert outcome.failures([stale], {"ops/a.py": [KEY]}, 90) == (
        "ops/a.py: this listed mutant is killed or no longer generated, remove it: - `plan`: `a < b` -> `a <= b`",
    )


def test_a_share_is_rounded_down() -> None:
    assert Result("ops/a.py", 1000, (KEY,) * 101, 1.0).percent == 89.9
    assert Result("ops/a.py", 3, (KEY,), 1.0).percent == 66.6
    assert Result("ops/a.py", 0, (), 1.0).percent == 100.0


def test_the_results_are_a_table_and_a_document() -> None:
    result = Result("ops/a.py", 20, (KEY, OTHER), 61.26)
    accepted = {"ops/a.py": {KEY: "a reason."}}
    assert outcome.table([result], accepted) == (
        "module    mutants  killed  survived  percent  accepted  seconds",
        "ops/a.py       20      18         2     90.0         1       61",
    )
    survivor = {"definition": "plan", "before": "a < b", "after": "a <= b"}
    assert outcome.document([result], accepted, 90) == {
        "schema": 1,
        "floor": 90,
        "modules": [
            {
                "module": "ops/a.py",
                "mutants": 20,
                "killed": 18,
                "percent": 90.0,
                "seconds": 61.3,
                "survived": [
                    survivor | {"number": 1, "reason": "a reason."},
                    survivor | {"number": 2, "reason": ""},
                ],
            }
        ],
    }


def test_the_modules_to_mutate_and_their_tests_exist_and_each_listed_survivor_has_its_module() -> None:
    declared = tomllib.loads((ROOT / "tests/mutation/modules.toml").read_text())
    sources = [each["source"] for each in declared["module"]]
    files = [*sources, *(test for each in declared["module"] for test in each["tests"])]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    accepted = outcome.accepted_from((ROOT / "docs/reference/mutation.md").read_text())
    assert set(accepted) <= set(sources)
