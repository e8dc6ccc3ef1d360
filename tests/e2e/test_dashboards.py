"""The dashboards of the deployed site: every panel has data, and Grafana serves them to its administrator alone."""

from __future__ import annotations

import json
import shlex
from urllib.parse import quote

from ops.config.monitoring_files import GRAFANA_PATH
from ops.config.paths import SECRETS_DIRECTORY
from tests.support import panels
from tests.support.deployed_site import DeployedSite, Ssh, ops, until

# What a site has only after its first event of the kind: tests/integration/test_dashboards.py has a sample of each.
AFTER_AN_EVENT = (
    "gitea_suite_drill_",
    "gitea_suite_prune_",
    "gitea_suite_update_",
    "gitea_suite_verification_",
)
_RATE = "2m"
# Gitea is read once a minute, and a rate needs two samples.
_SECONDS = 180


def _has_data(ssh: Ssh, query: panels.Query) -> bool:
    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(query.at(_RATE))}"
    done = ssh(f"sudo docker exec gitea-suite-prometheus-1 wget -q -O - {shlex.quote(url)}")
    assert done.returncode == 0, f"{query}: {done.stderr}"
    return bool(json.loads(done.stdout)["data"]["result"])


def test_every_panel_has_data(ssh: Ssh) -> None:
    ops(ssh, "backup", "take")
    ssh("sudo ops health --json")
    wanted = [each for each in panels.queries() if not any(name in each.expression for name in AFTER_AN_EVENT)]
    assert len(wanted) > 60
    missing = list(wanted)

    def all_have_data() -> bool:
        missing[:] = [each for each in missing if not _has_data(ssh, each)]
        return not missing

    try:
        until(all_have_data, "every panel has data", _SECONDS)
    except AssertionError as error:
        raise AssertionError("without data:\n" + "\n".join(map(str, missing))) from error


def _asked(ssh: Ssh, address: str, path: str, *, signed_in: bool) -> tuple[int, str]:
    """Return status and body of Grafana's answer to a request from the host."""
    password = f'--user "admin:$(sudo cat {SECRETS_DIRECTORY}/grafana-password)"' if signed_in else ""
    url = shlex.quote(f"http://{address}{GRAFANA_PATH}{path}")
    done = ssh(f"curl --silent --max-time 20 --write-out '\\n%{{http_code}}' {password} {url}")
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_grafana_serves_the_dashboards_to_its_administrator_alone(ssh: Ssh) -> None:
    address = ops(ssh, "dashboards")["address"]
    status, body = _asked(ssh, address, "api/search?type=dash-db", signed_in=True)
    assert status == 200, body
    assert {each["uid"] for each in json.loads(body)} == {each["uid"] for each in panels.boards().values()}
    assert _asked(ssh, address, "api/search", signed_in=False)[0] == 401
    series = "api/datasources/proxy/uid/prometheus/api/v1/query?query=up"
    status, body = _asked(ssh, address, series, signed_in=True)
    assert (status, bool(json.loads(body)["data"]["result"])) == (200, True)


def test_nginx_serves_grafana_only_where_the_site_says_so(site: DeployedSite, ssh: Ssh) -> None:
    public = bool(site.document.get("monitoring", {}).get("grafana_path", False))
    name = site.document["domain"]
    url = f"https://{name}{GRAFANA_PATH}api/health"
    done = ssh(f"curl --silent --insecure --max-time 20 --resolve {name}:443:127.0.0.1 {shlex.quote(url)}")
    assert ('"database"' in done.stdout) is public, done.stdout
