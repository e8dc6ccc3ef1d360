"""Every alerting rule rings in its bad case, is silent in its good one, and has all that a person needs who gets its mail."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ground import debian_program
from ground.base_images import configured_mirror
from ops.config import monitoring_files
from tests.support import alert_rules, fakes
from tests.support.alert_rules import ALWAYS, CACHE, ROOT, SOURCES, Rule

RULES = {rule.name: rule for rule in alert_rules.rules(fakes.site())}
_CASES = ROOT / "tests/lint/alert_cases"
_RUNBOOK = ROOT / "docs/runbooks/alerts.md"
_RECORDED = ROOT / "tests/data/recordings"


def _cases() -> dict[str, dict[str, Any]]:
    """The cases of each rule, of all files."""
    return {
        name: {"file": file.stem, **cases}
        for file in sorted(_CASES.glob("*.yaml"))
        for name, cases in yaml.safe_load(file.read_text(encoding="utf-8")).items()
    }


CASES = _cases()


@pytest.fixture(scope="module")
def promtool() -> Path:
    """The program: Debian's, as in the hermetic set's image of Prometheus, or without a mirror of Debian this machine's release's."""
    package, suite = ("promtool", "forky") if configured_mirror() else ("prometheus", "")
    return debian_program.provide(package, suite, "usr/bin/promtool", CACHE, print)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the rule files as a site has them."""
    folder = tmp_path_factory.mktemp("rules")
    for each in SOURCES:
        text = monitoring_files.rules_for(fakes.site(), each.read_text(encoding="utf-8"))
        (folder / each.name).write_text(text, encoding="utf-8")
    return folder


def _promtool(promtool: Path, *arguments: str) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_promtool_finds_every_rule_file_valid(promtool: Path, rendered: Path) -> None:
    files = sorted(map(str, rendered.glob("*.yaml")))
    assert len(files) == len(SOURCES) > 5
    _promtool(promtool, "check", "rules", "--lint=all", "--lint-fatal", *files)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_every_rule_rings_in_its_bad_case_and_is_silent_in_its_good_case(
    source: Path, promtool: Path, rendered: Path, tmp_path: Path
) -> None:
    tests = [
        _as_test(RULES[name], kind, cases[kind])
        for name, cases in CASES.items()
        for kind in ("bad", "good")
        if cases["file"] == source.stem and kind in cases
    ]
    document = {"rule_files": [str(rendered / source.name)], "evaluation_interval": "1m", "tests": tests}
    file = tmp_path / "tests.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    assert tests
    _promtool(promtool, "test", "rules", str(file))


def _as_test(rule: Rule, kind: str, case: Mapping[str, Any]) -> dict[str, Any]:
    """A case as a test of promtool. The rule's own labels and runbook are added, and no text is taken from the rule."""
    alert = {
        "exp_labels": {**rule.labels, **case.get("labels", {})},
        "exp_annotations": {
            "summary": case.get("summary", ""),
            "description": case.get("description", ""),
            "runbook_url": _runbook_of(rule.name),
        },
    }
    return {
        "name": f"{rule.name}, {kind}",
        "interval": "1m",
        "input_series": [{"series": name, "values": str(values)} for name, values in case["series"].items()],
        "alert_rule_test": [
            {"eval_time": case["at"], "alertname": rule.name, "exp_alerts": [alert] if kind == "bad" else []}
        ],
    }


def _runbook_of(name: str) -> str:
    return f"docs/runbooks/alerts.md#{name.lower()}"


def test_every_rule_has_a_bad_and_a_good_case_in_the_file_of_its_name() -> None:
    assert {name: cases["file"] for name, cases in CASES.items()} == {name: rule.file for name, rule in RULES.items()}
    kinds = {name: set(cases) - {"file"} for name, cases in CASES.items()}
    assert kinds == {name: {"bad"} if name == ALWAYS else {"bad", "good"} for name in RULES}


def test_a_good_case_has_samples_of_a_metric_of_its_rule() -> None:
    silent = [
        name for name, cases in CASES.items() if "good" in cases and not _seen(cases["good"]) & RULES[name].metrics
    ]
    assert silent == []


def _seen(case: Mapping[str, Any]) -> set[str]:
    return {name.partition("{")[0] for name in case["series"]}


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_a_rule_has_a_severity_an_area_a_summary_a_description_and_a_runbook(rule: Rule) -> None:
    silent = rule.name in {ALWAYS, "Maintenance"}
    assert rule.labels["severity"] in ({"none"} if silent else {"page", "warn", "info"})
    assert rule.labels["area"] == rule.file
    assert set(rule.annotations) == {"summary", "description", "runbook_url"}
    assert rule.annotations["runbook_url"] == _runbook_of(rule.name)
    assert len(rule.annotations["summary"]) < 100, "it is a mail's subject"
    assert set(rule.labels) <= {"severity", "area", "needs", "during_maintenance"}


def test_there_are_as_many_rules_as_a_person_can_know() -> None:
    assert 40 <= len(RULES) <= 60
    assert len(RULES) == len(alert_rules.rules(fakes.site())), "two rules have one name"


def test_a_sentence_in_a_mail_ends_as_a_sentence_and_a_subject_does_not() -> None:
    assert [name for name, rule in RULES.items() if rule.annotations["summary"].endswith(".")] == []
    assert [name for name, rule in RULES.items() if not rule.annotations["description"].endswith(".")] == []


def _entries() -> Iterator[tuple[str, str]]:
    for part in re.split(r"^### ", _RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        yield name.strip(), re.split(r"^## ", text, flags=re.MULTILINE)[0]


def test_the_runbook_has_an_entry_for_every_rule_and_no_other() -> None:
    names = [name for name, _ in _entries()]
    assert sorted(names) == sorted(RULES)


@pytest.mark.parametrize(("name", "text"), list(_entries()), ids=lambda value: value if value.isalnum() else "")
def test_an_entry_of_the_runbook_says_what_users_notice_what_to_look_at_and_what_to_type(name: str, text: str) -> None:
    assert [each for each in ("**Users notice**", "**Look at**", "**Type**") if each not in text] == [], name
    if name not in {ALWAYS, "Maintenance"}:
        assert re.search(r"```sh\n.+\n```|`(sudo |\./noxw)[^`]+`", text.partition("**Type**")[2], re.DOTALL), name


def test_the_metrics_of_ops_in_the_rules_are_those_that_ops_writes() -> None:
    from ops.metrics import METRICS, PREFIX

    used = {metric for rule in RULES.values() for metric in rule.metrics if metric.startswith(PREFIX)}
    assert used
    assert {metric.removeprefix(PREFIX) for metric in used} <= set(METRICS)


def test_the_metrics_of_gitea_in_the_rules_were_recorded_from_every_version() -> None:
    used = {metric for rule in RULES.values() for metric in rule.metrics if re.match(r"gitea_(?!suite_)", metric)}
    recorded = {file.parent.name: file.read_text(encoding="utf-8") for file in sorted(_RECORDED.glob("*/other.json"))}
    assert used
    assert len(recorded) > 1
    assert {
        f"{metric} {version}" for metric in used for version, text in recorded.items() if metric not in text
    } == set()
