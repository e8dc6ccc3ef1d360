"""The committed dashboards are those of their source, and each panel says what it shows."""

from __future__ import annotations

import re

import pytest

from compose.grafana.source import documents
from ops import metrics
from tests.support import panels

# What the exporters and Gitea name their metrics, and what Prometheus makes itself.
PREFIXES = ("alertmanager_", "gitea_", "haproxy_", "nginx_", "node_", "pg_", "probe_", "process_", "prometheus_")
OWN = {"ALERTS", "up"}
WORDS = re.compile(r'"[^"]*"|\'[^\']*\'|\[[^\]]*\]|\b(?:by|on|without)\s*\([^)]*\)|\{[^}]*\}')


def test_the_committed_dashboards_are_those_of_the_source() -> None:
    committed = {each.name: each.read_text(encoding="utf-8") for each in documents.FOLDER.glob("*.json")}
    assert committed == documents.texts(), "run ./noxw -s dashboards"
    assert set(committed) == {"glance.json", "host.json", "database.json", "backups.json"}


def test_each_dashboard_is_read_only_and_has_its_own_uid() -> None:
    found = panels.boards().values()
    assert len({each["uid"] for each in found}) == len(found) == 4
    assert all(each["editable"] is False and each["refresh"] == "1m" for each in found)


def test_each_panel_has_a_unit_limits_a_description_and_a_known_source() -> None:
    for board, panel in panels.panels():
        defaults = panel["fieldConfig"]["defaults"]
        name = f"{board}: {panel['title']}"
        assert defaults["unit"], name
        assert defaults["thresholds"]["steps"][0]["value"] is None, name
        assert panel["description"].endswith("."), name
        assert {each["datasource"]["uid"] for each in panel["targets"]} == {"prometheus"}, name


def test_titles_are_there_once_in_a_dashboard() -> None:
    found = [(board, panel["title"]) for board, panel in panels.panels()]
    assert len(found) == len(set(found)) > 30


def _names(expression: str) -> set[str]:
    bare = WORDS.sub(" ", expression)
    return {each for each in re.findall(r"\b[A-Za-z_:]\w*\b(?!\s*\()", bare) if "_" in each or each in OWN}


@pytest.mark.parametrize("query", panels.queries(), ids=str)
def test_each_query_is_about_metrics_that_somebody_writes(query: panels.Query) -> None:
    found = _names(query.at("5m"))
    assert found
    for name in found:
        if name.startswith(metrics.PREFIX):
            assert name.removeprefix(metrics.PREFIX) in metrics.METRICS, name
        else:
            assert name in OWN or name.startswith(PREFIXES), name
