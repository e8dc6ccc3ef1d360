"""Grafana's address on the host, and where the site file puts Grafana."""

from __future__ import annotations

from typing import Any

import pytest

from ops.config import monitoring_files, tool_variables
from ops.errors import Refused
from ops.stack import dashboards
from tests.support import fakes


def test_the_address_is_that_of_grafana_s_container_on_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    world: Any = fakes.FakeWorld()
    monkeypatch.setattr(
        world.containers, "address", lambda *asked: {"gitea-suite_monitoring": "172.20.0.9"}[asked[2]], raising=False
    )
    report = dashboards.address(fakes.site(), world)
    assert (report.facts, report.changed) == ({"address": "172.20.0.9:3000"}, False)


def test_a_site_without_monitoring_has_no_dashboards() -> None:
    world: Any = fakes.FakeWorld()
    with pytest.raises(Refused, match=r"monitoring\.enabled is false"):
        dashboards.address(fakes.site(monitoring={"enabled": False}), world)


@pytest.mark.parametrize(
    ("public", "address", "network", "secure"),
    [
        (True, "https://git.example.org/-/grafana/", "web", "true"),
        (False, "http://localhost:3000/-/grafana/", "monitoring", "false"),
    ],
)
def test_grafana_is_on_nginx_s_network_only_where_the_site_says_so(
    public: bool, address: str, network: str, secure: str
) -> None:
    site = fakes.site(monitoring={"grafana_path": public})
    found = monitoring_files.compose_variables(site)
    assert (found["GRAFANA_URL"], found["GRAFANA_NETWORK"]) == (address, network)
    assert found["GRAFANA_COOKIE_SECURE"] == secure
    assert tool_variables.compose_environment(site, {})["GRAFANA_PATH"] == ("public" if public else "private")


def test_nginx_has_no_path_to_grafana_on_a_site_without_monitoring() -> None:
    site = fakes.site(monitoring={"enabled": False, "grafana_path": True})
    assert tool_variables.compose_environment(site, {})["GRAFANA_PATH"] == "private"
