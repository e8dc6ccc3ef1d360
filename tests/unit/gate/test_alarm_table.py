"""The report page lists each fault of a rehearsal with its alerts and seconds."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ops.gate import alarm_table, evidence
from ops.gate.html_report import page_from
from ops.model import Case, Circumstances, Proof

KEY, TREE, NOW = bytes(32), "a" * 40, datetime(2026, 12, 1, 12, tzinfo=UTC)
SLOW = {"fault": "Diun <stopped>", "alerts": ["HealthCheckFails"], "channel": "mail", "rung": 31.26, "ended": 4.0}
FAST = {
    "fault": "nginx stopped",
    "alerts": ["SiteUnreachable", "Other"],
    "channel": "webhook",
    "rung": 8.0,
    "ended": 3.0,
}


def _case(document: object, outcome: str = "passed") -> Case:
    return Case("a::test_a_fault", outcome, 9.0, {alarm_table.PROPERTY: json.dumps(document)})


def test_the_slowest_alarm_is_first_and_its_text_is_escaped() -> None:
    table = alarm_table.to_html([_case(FAST), _case(SLOW)])
    assert table.index("Diun &lt;stopped&gt;") < table.index("nginx stopped")
    for shown in ("31.3 s", "8.0 s", "SiteUnreachable, Other<small>webhook</small>"):
        assert shown in table


def test_the_alarm_of_a_failed_test_and_an_invalid_one_are_not_listed() -> None:
    invalid = ["x", {**FAST, "rung": "soon"}, {**FAST, "alerts": None}, {"fault": "x"}]
    assert alarm_table.alarms([_case(FAST, "failed"), *map(_case, invalid), Case("a::b", "passed", 1.0, {})]) == ()
    assert alarm_table.to_html([_case(FAST, "failed")]) == ""


def test_the_page_has_the_alarms_of_its_evidence() -> None:
    value = json.dumps(FAST).replace('"', "&quot;")
    junit = (
        f'<testsuite><testcase classname="a" name="test_a_fault" time="9"><properties><property name="alarm" value="{value}"/>'
        "</properties></testcase></testsuite>"
    ).encode()
    under = Circumstances(command=evidence.COMMANDS["lint"])
    proof = Proof(evidence.to_envelope(evidence.statement_from("lint", TREE, junit, under), KEY), junit)
    page = page_from(evidence.check_chain(TREE, {"lint": proof}, KEY), TREE, "c" * 40, (), NOW)
    assert "<td>nginx stopped</td>" in page
