"""Replacing nginx fails no request, and requests wait while a backup is restored."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, head_of, ops, push, session_for
from tests.support.load_clients import LoadClients, throttled_port

REQUESTS = 20_000
REPLACEMENTS = 3
# A push of this size takes longer than a replacement.
PUSHED_BYTES, BYTES_PER_SECOND = 12 * 1024 * 1024, 300_000


@pytest.fixture
def pushing(
    site: DeployedSite, account: Account, git: Git, repository: str, tmp_path: Path
) -> Iterator[threading.Thread]:
    """Push a large file over a slow connection, for longer than a replacement of nginx takes."""
    work = tmp_path / "work"
    (work / "large.bin").write_bytes(ssl.RAND_bytes(PUSHED_BYTES))
    git("add", ".", directory=work)
    git("commit", "--quiet", "--message", "large", directory=work)
    with throttled_port(site.address, 443, BYTES_PER_SECOND) as port:
        remote = repository.replace(site.domain, f"{site.domain}:{port}")
        find = f"http.curloptResolve={site.domain}:{port}:127.0.0.1"
        argv = ("-c", find, "push", "--quiet", remote, "HEAD:refs/heads/main")
        thread = threading.Thread(target=git, args=argv, kwargs={"directory": work})
        thread.start()
        yield thread
        thread.join()


def test_nginx_is_replaced_under_load_during_a_push_without_a_failed_request(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, pushing: threading.Thread, tmp_path: Path
) -> None:
    before = _nginx(ssh)
    trust = ssl.create_default_context(cafile=site.authorities or None)
    with LoadClients(site.address, 443, site.domain, trust, "/api/healthz") as clients:
        for number in range(1, REPLACEMENTS + 1):
            clients.await_served(number * REQUESTS // (REPLACEMENTS + 1))
            if number == 1:
                assert pushing.is_alive(), "the push ended before nginx was replaced"
            assert ops(ssh, "nginx", "replace")["cut"] is False
        clients.await_served(REQUESTS)
    assert clients.failures == {}
    assert clients.served >= REQUESTS
    assert clients.reused > REPLACEMENTS
    pushing.join()
    assert head_of(site, account, "kept") == git("rev-parse", "HEAD", directory=tmp_path / "work").stdout.strip()
    # There is exactly one nginx, a new one, and it is as Compose would make it.
    after = _nginx(ssh)
    assert len(after) == 1
    assert set(after).isdisjoint(before)
    assert ssh("cd /opt/gitea-suite/compose && sudo docker compose up --detach --wait").returncode == 0
    assert _nginx(ssh) == after


@pytest.mark.usefixtures("by_hand")
def test_requests_wait_while_a_backup_is_restored_and_are_then_served(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, tmp_path: Path
) -> None:
    commit = push(git, repository, tmp_path / "work", "kept")
    ops(ssh, "backup", "take")
    restoring = threading.Thread(target=ops, args=(ssh, "restore", "--yes"))
    pages, answers, ssh_output = session_for(site), [], []
    argv = ["ssh", "-p", str(site.ssh_port), "-oBatchMode=yes", "-oStrictHostKeyChecking=no"]
    argv += ["-oUserKnownHostsFile=/dev/null", f"git@{site.address}"]
    restoring.start()
    while restoring.is_alive():
        answers.append(pages.get(f"{site.url}/api/v1/version", timeout=60))
        ssh_output.append(subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60).stderr)
        time.sleep(0.05)
    assert {each.status_code for each in answers} == {200}
    # A login without a key ends at Gitea's sshd.
    assert all("Permission denied" in each for each in ssh_output)
    assert max(each.elapsed.total_seconds() for each in answers) > 1, "no request came while Gitea was stopped"
    assert head_of(site, account, "kept") == commit


def _nginx(ssh: Ssh) -> list[str]:
    found = "label=com.docker.compose.project=gitea-suite --filter label=com.docker.compose.service=nginx"
    return ssh(f"sudo docker ps --all --quiet --filter {found}").stdout.split()
