"""The power goes at the worst moments. Nothing is asked of anyone when it comes back."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import Account, DeployedSite, Git, Ssh, head_of, ops, push
from tests.e2e.rehearsals.test_cut_off import GITEA, POSTGRES, cut_off_at

pytestmark = pytest.mark.usefixtures("by_hand")

BACK_SECONDS = 300


def test_a_host_that_loses_power_while_its_site_stands_still_comes_back_with_a_site_that_goes_on(
    site: DeployedSite, account: Account, ssh: Ssh, web: requests.Session, repository: str
) -> None:
    assert repository
    before = head_of(site, account, "kept")
    # A database that answers no more when Gitea is frozen: the moment lasts until the watchman ends it.
    script = (
        f'ops backup take 2>&1 | while read -r line; do [ "$line" = "== settle" ] && docker pause {POSTGRES} >&2; done'
    )
    hang = threading.Thread(target=ssh, args=(f"sudo sh -c {shlex.quote(script)}",))
    hang.start()
    _until(lambda: _state(ssh, GITEA) == "paused", "Gitea stands still", 60)
    _lose_power(ssh)
    hang.join(timeout=120)
    _until(lambda: ssh("sudo ops health --json").returncode == 0, "the site is well again", BACK_SECONDS)
    assert (_state(ssh, GITEA), _state(ssh, POSTGRES)) == ("running", "running")
    assert head_of(site, account, "kept") == before
    assert web.get(f"{site.url}/api/healthz").status_code == 200
    ops(ssh, "backup", "take")
    assert ssh("sudo ls /srv/gitea/.moment").stdout == ""


def test_a_host_that_loses_power_in_the_switch_of_a_restore_goes_back_by_itself(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, tmp_path: Path
) -> None:
    ops(ssh, "backup", "take")
    now = push(git, repository, tmp_path / "work", "after the backup")
    cut_off_at(ssh, "start", "restore", "--yes")
    assert ssh("sudo ls /srv/gitea/.restore/journal.json").returncode == 0
    _lose_power(ssh)
    _until(lambda: ssh("sudo ops health --json").returncode == 0, "the site is well again", BACK_SECONDS)
    assert head_of(site, account, "kept") == now
    assert ssh("sudo ls /srv/gitea/.restore/journal.json").returncode != 0
    assert ops(ssh, "restore", "--resume")["changed"] is False


def _lose_power(ssh: Ssh) -> None:
    """Reboot at once: no process is told, nothing is unmounted."""
    booted = _started(ssh)
    ssh("sudo systemctl reboot --force --force --no-sync")
    _until(lambda: _started(ssh) not in {booted, ""}, "the host is back", BACK_SECONDS)


def _started(ssh: Ssh) -> str:
    return ssh("systemctl show --property UserspaceTimestamp --value").stdout.strip()


def _state(ssh: Ssh, container: str) -> str:
    return ssh(f"sudo docker inspect --format '{{{{.State.Status}}}}' {container}").stdout.strip()


def _until(ready: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)
