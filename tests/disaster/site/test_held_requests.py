"""No request is cut while Gitea is stopped on purpose: under load during an update and a changed setting, and in a reboot."""

from __future__ import annotations

import os
import ssl
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import tomli_w

from tests.bench.host import percentile
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, ops, session_for, until
from tests.support.load_clients import LoadClients
from tests.support.site_transfers import slow_clone, transfers
from tests.support.updated_site import deploy, version_of

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


@pytest.mark.usefixtures("by_hand")
def test_a_deployment_with_a_changed_title_fails_no_request(
    site: DeployedSite, ssh: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path(os.environ["E2E_SITE"])
    document = tomllib.loads(original.read_text())
    document["gitea"]["title"] = "Another title"
    changed = original.with_name("changed-title.toml")
    changed.write_text(tomli_w.dumps(document))
    try:
        with _load(site) as clients:
            monkeypatch.setenv("E2E_SITE", str(changed))
            assert deploy("--yes").returncode == 0
            assert "Another title" in session_for(site).get(f"{site.url}/user/login").text
            monkeypatch.setenv("E2E_SITE", str(original))
            assert deploy("--yes").returncode == 0
        assert clients.failures == {}
        assert clients.longest > 1, "no request came while Gitea was restarted"
        assert "Another title" not in session_for(site).get(f"{site.url}/user/login").text
    finally:
        changed.unlink()
    assert ssh("sudo ops health --json").returncode == 0


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
