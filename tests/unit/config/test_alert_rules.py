"""The rules that a site gets, and which alert silences which."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ops.config import monitoring_files
from tests.support import alert_rules, fakes

RULES = {rule.name: rule for rule in alert_rules.rules(fakes.site())}
INHIBITIONS: list[dict[str, Any]] = monitoring_files.alertmanager(fakes.site())["inhibit_rules"]


def _silenced_by(cause: str) -> set[str]:
    """The rules whose static labels match a cause's inhibitions; a matcher of another label may narrow them."""
    found: set[str] = set()
    for each in INHIBITIONS:
        if each["source_matchers"] == [f"alertname={cause}"]:
            found |= {name for name in RULES if all(_matches(name, matcher) for matcher in each["target_matchers"])}
    return found - {cause}


def _matches(name: str, matcher: str) -> bool:
    label, operator, wanted = re.split(r"(=~|=)", matcher, maxsplit=1)
    value = {**RULES[name].labels, "alertname": name}.get(label)
    if label not in {"alertname", "needs", "during_maintenance"}:
        return True
    return value is not None and bool(re.fullmatch(wanted if operator == "=~" else re.escape(wanted), value))


def test_a_rule_has_the_site_s_thresholds() -> None:
    text = 'expr: a < <<disk_free_percent>> and b{job="<<certificate_days>>"}'
    site = fakes.site(monitoring={"disk_free_percent": 7, "certificate_days": 21})
    assert monitoring_files.rules_for(site, text) == 'expr: a < 7 and b{job="21"}'


@pytest.mark.parametrize(
    ("interval", "times"), [(60, (300, 7200, 3600)), (300, (300, 7200, 3600)), (2, (10, 240, 120))]
)
def test_a_shorter_interval_shortens_the_times_of_for_ranges_and_offsets_and_no_others(
    interval: int, times: tuple[int, int, int]
) -> None:
    text = "        expr: rate(a[5m]) > 900 and b offset 2h > 6\n        for: 1h\n        summary: for 24h [sic]\n"
    waiting, shifted, ringing = times
    assert monitoring_files.rules_for(fakes.site(monitoring={"interval_seconds": interval}), text) == (
        f"        expr: rate(a[{waiting}s]) > 900 and b offset {shifted}s > 6\n"
        f"        for: {ringing}s\n        summary: for 24h [sic]\n"
    )


def test_every_need_of_a_rule_is_silenced_by_a_cause() -> None:
    needing = {name for name, rule in RULES.items() if "needs" in rule.labels}
    assert len(needing) > 20
    silenced = {name for cause in RULES if cause != "Maintenance" for name in _silenced_by(cause)}
    assert needing - silenced == set()


def test_every_cause_that_silences_is_a_rule_and_silences_something() -> None:
    causes = {each["source_matchers"][0].removeprefix("alertname=") for each in INHIBITIONS}
    assert causes <= set(RULES)
    assert {cause for cause in causes if not _silenced_by(cause)} == set()


def test_a_cause_rings_no_later_than_what_it_silences() -> None:
    late = {
        (cause, name)
        for cause in RULES
        if cause != "Maintenance"
        for name in _silenced_by(cause)
        # Without the node exporter their metrics are absent.
        if RULES[name].labels.get("needs") != "node" and RULES[cause].seconds > RULES[name].seconds
    }
    assert late == set()


def test_maintenance_silences_what_a_stopped_gitea_or_database_causes_and_nothing_that_it_cannot_cause() -> None:
    silenced = _silenced_by("Maintenance")
    assert {"SiteUnreachable", "GiteaDown", "PostgresDown", "GitOverSshFails", "ManyErrors"} <= silenced
    assert {
        name for name in silenced if RULES[name].labels["area"] in {"host", "certificates", "mail", "updates"}
    } == set()
    assert silenced & {"VerificationFailed", "DrillFailed", "AlarmsNotMailed", "NothingIsMeasured"} == set()


def test_no_rule_silences_the_alarm_that_a_person_watches_from_outside() -> None:
    assert [cause for cause in RULES if "Watchdog" in _silenced_by(cause)] == []


def test_what_rings_without_a_fault_is_mailed_to_no_person() -> None:
    routes = monitoring_files.alertmanager(fakes.site())["route"]["routes"]
    receivers = {route["matchers"][0]: route["receiver"] for route in routes}
    assert receivers["alertname=Watchdog"] == receivers["severity=none"] == "nobody"
    assert {rule.name for rule in RULES.values() if rule.labels["severity"] == "none"} == {"Watchdog", "Maintenance"}
