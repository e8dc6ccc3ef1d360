"""No request is cut while Gitea is stopped on purpose: under load during an update and a changed setting, and in a reboot."""

from __future__ import annotations

import os
import ssl
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import tomli_w

from ops.config import app_ini
from ops.config.paths import HostPaths
from ops.stack.secrets_in_use import INI
from tests.bench.host import percentile
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, ops, session_for, until
from tests.support.load_clients import LoadClients
from tests.support.site_transfers import slow_clone, transfers
from tests.support.updated_site import GITEA, POSTGRES, deploy, version_of, visitors

Record = Callable[[str, object], None]
REQUESTS = 20_000
MARGIN_SECONDS = 1.0


@contextmanager
def _load(site: DeployedSite) -> Iterator[LoadClients]:
    trust = ssl.create_default_context(cafile=site.authorities or None)
    with LoadClients(site.address, 443, site.domain, trust, "/api/healthz") as clients:
        yield clients


@pytest.mark.usefixtures("by_hand", "short_watch")
def test_an_update_under_load_fails_no_request_and_cuts_no_clone_and_no_push(
    older_gitea: None,
    site: DeployedSite,
    ssh: Ssh,
    account: Account,
    git: Git,
    tmp_path: Path,
    record_property: Record,
) -> None:
    with transfers(site, account, git, tmp_path) as moved, _load(site) as clients:
        # Both clones have begun.
        time.sleep(15)
        done = ops(ssh, "update", "gitea", "--yes")
        clients.await_served(REQUESTS, seconds=600)
    waited = percentile(clients.seconds, 0.99)
    seen = f"{clients.served} requests, 99 of 100 within {waited:.2f} s; {dict(moved.ended)}; away {done['away']} s"
    record_property("an update under load", seen)
    print(seen, done["requests"])
    assert (done["outcome"], version_of(site, account)) == ("updated", "28.1.0")
    assert (clients.failures, moved.errors) == ({}, [])
    assert clients.served >= REQUESTS
    assert min(moved.ended["clone"], moved.ended["push"]) >= 2
    assert (done["requests"]["cut"], done["requests"]["refused"]) == (0, 0)
    assert waited <= done["away"] + MARGIN_SECONDS


@pytest.fixture
def deploy_with(by_hand: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Deploy the site with values of the table `gitea`, and return the exit code; without values, the original site."""
    original = Path(os.environ["E2E_SITE"])
    document = tomllib.loads(original.read_text())
    changed, given = original.with_name("changed.toml"), [False]

    def deployed(**values: Any) -> int:
        changed.write_text(tomli_w.dumps({**document, "gitea": {**document["gitea"], **values}}))
        monkeypatch.setenv("E2E_SITE", str(changed if values else original))
        given.append(bool(values))
        return deploy("--yes").returncode

    yield deployed
    changed.unlink(missing_ok=True)
    if given[-1]:
        deployed()


def test_a_deployment_with_a_changed_title_fails_no_request(
    site: DeployedSite, ssh: Ssh, deploy_with: Callable[..., int]
) -> None:
    with _load(site) as clients:
        assert deploy_with(title="Another title") == 0
        assert "Another title" in session_for(site).get(f"{site.url}/user/login").text
        assert deploy_with() == 0
    assert clients.failures == {}
    assert clients.longest > 1, "no request came while Gitea was restarted"
    assert "Another title" not in session_for(site).get(f"{site.url}/user/login").text
    assert ssh("sudo ops health --json").returncode == 0


def test_a_deployment_changes_settings_of_gitea_and_takes_back_what_gitea_does_not_start_with(
    site: DeployedSite, ssh: Ssh, account: Account, deploy_with: Callable[..., int]
) -> None:
    page = {"ui": {"EXPLORE_PAGING_NUM": 7}}
    database = _started(ssh, POSTGRES)
    with visitors(site, account) as observed:
        assert deploy_with(settings=page) == 0
        assert _app_ini(ssh)["ui", "EXPLORE_PAGING_NUM"] == "7"
        gitea = _started(ssh, GITEA)
        assert deploy_with(settings={**page, "cache": {"ADAPTER": "redis", "HOST": "redis://127.0.0.1:1/0"}}) == 5
        found = _app_ini(ssh)
        assert (found["ui", "EXPLORE_PAGING_NUM"], ("cache", "ADAPTER") in found) == ("7", False)
        assert _started(ssh, GITEA) != gitea
        assert deploy_with() == 0
    assert ("ui", "EXPLORE_PAGING_NUM") not in _app_ini(ssh)
    assert (set(observed.counted()), _started(ssh, POSTGRES)) == ({200}, database)
    assert ssh("sudo ops health --json").returncode == 0


def _started(ssh: Ssh, container: str) -> str:
    return ssh(f"sudo docker inspect --format '{{{{.State.StartedAt}}}}' {container}").stdout


def _app_ini(ssh: Ssh) -> app_ini.Settings:
    return app_ini.parse(ssh(f"sudo cat {HostPaths().live / INI}").stdout)


@pytest.mark.usefixtures("by_hand")
def test_a_reboot_waits_for_a_running_clone_and_tells_how_many_requests_were_cut(
    site: DeployedSite, ssh: Ssh, account: Account, git: Git, tmp_path: Path
) -> None:
    started = ssh("stat --format %Y /proc/1").stdout
    with slow_clone(site, account, git, tmp_path) as clone:
        time.sleep(3)
        assert clone.is_alive()
        ssh("sudo systemctl reboot")
        clone.join()
    until(lambda: ssh("stat --format %Y /proc/1").stdout not in {"", started}, "the host has rebooted")
    until(lambda: _is_served(site), "the site is served again")
    told = ssh("sudo journalctl --unit gitea-suite --no-pager --output cat | grep 'transfers were waited for'").stdout
    assert "1 transfers were waited for, 0 requests were cut off" in told.splitlines()[-1]


def _is_served(site: DeployedSite) -> bool:
    try:
        return session_for(site).get(f"{site.url}/api/healthz", timeout=10).status_code == 200
    except requests.ConnectionError:
        return False
