"""The power fails at the worst moments: the site starts by itself with all acknowledged writes."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disaster.site.test_killed_backup_and_restore import GITEA, POSTGRES, kill_at_step, state_of, steps_in
from tests.disaster.site.test_update import image_in_use, issue, migration_in_use, titles, version_of
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, head_of, ops, push, until

pytestmark = pytest.mark.usefixtures("by_hand")


def test_a_site_runs_again_after_a_power_failure_while_paused_and_the_next_backup_is_complete(
    account: Account, site: DeployedSite, ssh: Ssh, repository: str, cut_power: Callable[[], None]
) -> None:
    assert repository
    before = head_of(site, account, "kept")
    # The database stops answering when Gitea is paused: the snapshot cannot be taken, and the pause lasts.
    pause = f'[ "$line" = "== settle" ] && docker pause {POSTGRES}'
    script = f"ops backup take --json 2>&1 | while read -r line; do {pause}; done"
    _cut_power_during(ssh, cut_power, script, lambda: state_of(ssh, GITEA) == "paused", "Gitea is paused")
    _until_healthy(ssh)
    assert head_of(site, account, "kept") == before
    taken = ops(ssh, "backup", "take")
    listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
    assert listed[taken["identity"]]["whole"] is True


@pytest.mark.parametrize("step", ["switch", "start"])
def test_a_restore_is_undone_after_a_power_failure(
    account: Account,
    site: DeployedSite,
    ssh: Ssh,
    git: Git,
    repository: str,
    tmp_path: Path,
    cut_power: Callable[[], None],
    step: str,
) -> None:
    ops(ssh, "backup", "take")
    now = push(git, repository, tmp_path / "work", "acknowledged since the backup")
    _cut_power_at_step(ssh, cut_power, step, "restore", "--yes")
    _until_healthy(ssh)
    # The host undid the restore at boot, and maintenance mode has ended.
    assert head_of(site, account, "kept") == now
    assert push(git, repository, tmp_path / "work", "after") == head_of(site, account, "kept")
    assert ops(ssh, "restore", "--resume")["changed"] is False


def test_gitea_does_not_start_on_a_half_finished_restore_that_cannot_be_undone_yet(
    account: Account, site: DeployedSite, ssh: Ssh, git: Git, repository: str, tmp_path: Path
) -> None:
    ops(ssh, "backup", "take")
    now = push(git, repository, tmp_path / "work", "acknowledged since the backup")
    kill_at_step(ssh, "start", "restore", "--yes")
    assert ssh("sudo test -s /srv/gitea/.restore/journal").returncode == 0
    # Without ops the host cannot undo the restore.
    assert ssh("sudo mv /usr/local/bin/ops /root/ops && sudo ln -s /bin/false /usr/local/bin/ops").returncode == 0
    try:
        assert ssh("sudo systemctl restart gitea-suite").returncode != 0
        assert state_of(ssh, POSTGRES) == "running"
        assert state_of(ssh, GITEA) == "exited"
    finally:
        assert ssh("sudo mv /root/ops /usr/local/bin/ops").returncode == 0
    _until_healthy(ssh)
    assert head_of(site, account, "kept") == now
    assert ops(ssh, "restore", "--resume")["changed"] is False


@pytest.mark.usefixtures("short_watch")
@pytest.mark.timeout(2400)
def test_an_update_to_a_broken_release_is_undone_after_a_power_failure_at_any_step(
    account: Account,
    site: DeployedSite,
    ssh: Ssh,
    git: Git,
    repository: str,
    tmp_path: Path,
    cut_power: Callable[[], None],
) -> None:
    requested = ("update", "gitea", "--to", "28.1.1-broken", "--yes")
    steps = steps_in(ssh(f"sudo ops {shlex.join(requested)}").stderr)
    assert steps[-6:] == ["stop", "picture", "pin", "up", "judge", "back"]
    image, migration = image_in_use(ssh), migration_in_use(ssh)
    for step in steps:
        now = push(git, repository, tmp_path / "work", step)
        issue(site, account, step)
        issues = titles(site, account)
        _cut_power_at_step(ssh, cut_power, step, *requested)
        until_resumed(ssh)
        assert (image_in_use(ssh), migration_in_use(ssh), version_of(site, account)) == (image, migration, "28.1.0"), (
            step
        )
        assert (head_of(site, account, "kept"), titles(site, account)) == (now, issues), step
        assert ops(ssh, "update", "--resume")["changed"] is False, step


@pytest.mark.usefixtures("short_watch")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("step", ["stop", "up", "judge"])
def test_an_update_to_a_good_release_is_completed_or_undone_after_a_power_failure(
    older_gitea: None,
    account: Account,
    site: DeployedSite,
    ssh: Ssh,
    git: Git,
    repository: str,
    tmp_path: Path,
    cut_power: Callable[[], None],
    step: str,
) -> None:
    now = push(git, repository, tmp_path / "work", step)
    issue(site, account, step)
    _cut_power_at_step(ssh, cut_power, step, "update", "gitea", "--to", "28.1.0", "--yes")
    until_resumed(ssh)
    entry = ops(ssh, "update", "history")["updates"][-1]
    ends = {("28.0.1", "rolled back"), ("28.1.0", "updated")}
    # A stopped site starts with the old version again; a site that is already healthy keeps the new version.
    expected = {"stop": {("28.0.1", "rolled back")}, "judge": {("28.1.0", "updated")}}.get(step, ends)
    assert (version_of(site, account), entry["outcome"]) in expected
    assert (head_of(site, account, "kept"), titles(site, account)) == (now, {step})
    assert ops(ssh, "update", "--resume")["changed"] is False
    # The site serves everyone, and the next update succeeds.
    ops(ssh, "update", "gitea", "--to", "28.1.0", "--yes")
    assert version_of(site, account) == "28.1.0"


def _cut_power_at_step(ssh: Ssh, cut_power: Callable[[], None], step: str, *arguments: str) -> None:
    """Run a verb on the host, and cut the power when it begins a step."""
    # Pauses the verb at this step, so that the power fails in this step and no other. A busy machine may need several attempts.
    verb = f"docker ps --quiet --filter label=gitea-suite.verb={arguments[0]}"
    pause = f"for _ in 1 2 3 4 5; do docker pause $({verb}) && touch /run/begun && break; done"
    script = (
        f"ops {shlex.join(arguments)} 2>&1 | "
        f'while read -r line; do if [ "$line" = "== {step}" ]; then {pause}; fi; done'
    )
    begun = "test -e /run/begun"
    _cut_power_during(ssh, cut_power, script, lambda: ssh(begun).returncode == 0, f"{step} has begun")


def _cut_power_during(
    ssh: Ssh, cut_power: Callable[[], None], script: str, reached: Callable[[], bool], what: str
) -> None:
    """Run a shell script on the host as root, and cut the power as soon as it has reached the moment."""
    running = threading.Thread(target=ssh, args=[f"sudo sh -c {shlex.quote(script)}"])
    running.start()
    until(reached, what)
    cut_power()
    running.join()


def until_resumed(ssh: Ssh) -> None:
    """Wait until the host's boot has completed or undone the operation, without any other command."""
    until(lambda: ssh("mountpoint --quiet /srv/gitea").returncode == 0, "the host is up")
    until(
        lambda: ssh("sudo test -e /srv/gitea/.update/journal").returncode == 1,
        "the interrupted operation is completed or undone",
    )
    _until_healthy(ssh)


def _until_healthy(ssh: Ssh) -> None:
    until(lambda: ssh("sudo ops health --json").returncode == 0, "the site is healthy again")
    assert ssh("systemctl list-units --failed --plain --no-legend").stdout == ""
