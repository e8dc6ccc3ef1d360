"""No alert without its fault: each rule has one that a rehearsal injects (tests/disaster/site/test_alerts.py)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import alert_rules, fakes
from tests.support.alert_faults import FAULTS, Fault

RULES = {rule.name: rule for rule in alert_rules.rules(fakes.site())}
TESTS = set(
    re.findall(
        r"^def (test_\w+)", (Path(__file__).parents[1] / "disaster/site/test_alerts.py").read_text(), re.MULTILINE
    )
)


def test_every_rule_has_a_fault_that_rings_it_and_every_fault_a_rule() -> None:
    rung = {name for fault in FAULTS for name in fault.rings}
    assert rung == set(RULES)
    assert {name for fault in FAULTS for name in fault.silent} <= set(RULES)


def test_the_names_of_the_faults_differ() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_injected_and_taken_away_by_scripts_or_by_a_test_of_its_own(fault: Fault) -> None:
    assert fault.test in TESTS
    assert bool(fault.inject and fault.remove) is (fault.test == Fault.test)
    for script in fault.scripts("git.example.org", 587):
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_only_what_reaches_no_person_is_noticed_elsewhere_than_in_a_mail_or_the_webhook(fault: Fault) -> None:
    silent = {name for name in fault.rings if RULES[name].labels["severity"] == "none"}
    assert (fault.channel in {"heartbeat", "prometheus"}) is bool(silent)
    assert not silent & set(fault.silent)
