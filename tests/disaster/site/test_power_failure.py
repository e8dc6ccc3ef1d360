"""The power fails at the worst moments: the site comes up by itself, with all that was acknowledged."""

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


def test_a_site_whose_power_fails_while_it_stands_still_runs_again_and_the_next_backup_is_whole(
    account: Account, site: DeployedSite, ssh: Ssh, repository: str, cut_power: Callable[[], None]
) -> None:
    assert repository
    before = head_of(site, account, "kept")
    # A database that answers no more when Gitea is frozen: the moment cannot be had, and lasts.
    script = f'ops backup take --json 2>&1 | while read -r line; do [ "$line" = "== settle" ] && docker pause {POSTGRES}; done'
    standing = threading.Thread(target=ssh, args=[f"sudo sh -c {shlex.quote(script)}"])
    standing.start()
    until(lambda: state_of(ssh, GITEA) == "paused", "Gitea stands still")
    cut_power()
    standing.join()
    _until_healthy(ssh)
    assert head_of(site, account, "kept") == before
    taken = ops(ssh, "backup", "take")
    listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
    assert listed[taken["identity"]]["whole"] is True


@pytest.mark.parametrize("step", ["switch", "start"])
def test_a_restore_whose_power_fails_ends_before_it_began(
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
    # What was begun was undone as the host came up, and visitors are let in.
    assert head_of(site, account, "kept") == now
    assert push(git, repository, tmp_path / "work", "after") == head_of(site, account, "kept")
    assert ops(ssh, "restore", "--resume")["changed"] is False


def test_gitea_does_not_start_on_half_of_a_restore_that_cannot_be_undone_yet(
    account: Account, site: DeployedSite, ssh: Ssh, git: Git, repository: str, tmp_path: Path
) -> None:
    ops(ssh, "backup", "take")
    now = push(git, repository, tmp_path / "work", "acknowledged since the backup")
    kill_at_step(ssh, "start", "restore", "--yes")
    assert ssh("sudo test -s /srv/gitea/.restore/journal").returncode == 0
    # Whatever may be the matter with it: it cannot go back.
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
def test_an_update_whose_power_fails_at_any_step_ends_before_it_began(
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
        known = titles(site, account)
        _cut_power_at_step(ssh, cut_power, step, *requested)
        until_resumed(ssh)
        assert (image_in_use(ssh), migration_in_use(ssh), version_of(site, account)) == (image, migration, "28.1.0"), (
            step
        )
        assert (head_of(site, account, "kept"), titles(site, account)) == (now, known), step
        assert ops(ssh, "update", "--resume")["changed"] is False, step


@pytest.mark.usefixtures("short_watch")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("step", ["stop", "up", "judge"])
def test_an_update_to_a_good_release_whose_power_fails_is_done_or_was_never_there(
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
    # What stands still begins anew as it was; what is well already stays.
    expected = {"stop": {("28.0.1", "rolled back")}, "judge": {("28.1.0", "updated")}}.get(step, ends)
    assert (version_of(site, account), entry["outcome"]) in expected
    assert (head_of(site, account, "kept"), titles(site, account)) == (now, {step})
    assert ops(ssh, "update", "--resume")["changed"] is False
    # No one is left out, and the next update goes as any other.
    ops(ssh, "update", "gitea", "--to", "28.1.0", "--yes")
    assert version_of(site, account) == "28.1.0"


def _cut_power_at_step(ssh: Ssh, cut_power: Callable[[], None], step: str, *arguments: str) -> None:
    """Run a verb on the host, and cut the power when it begins a step."""
    # The verb stands still from there on: the blow falls in this step and in no other. A busy machine may not manage at once.
    verb = f"docker ps --quiet --filter label=gitea-suite.verb={arguments[0]}"
    stand_still = f"for _ in 1 2 3 4 5; do docker pause $({verb}) && touch /run/begun && break; done"
    script = (
        f"ops {shlex.join(arguments)} 2>&1 | "
        f'while read -r line; do if [ "$line" = "== {step}" ]; then {stand_still}; fi; done'
    )
    running = threading.Thread(target=ssh, args=[f"sudo sh -c {shlex.quote(script)}"])
    running.start()
    until(lambda: ssh("test -e /run/begun").returncode == 0, f"{step} has begun")
    cut_power()
    running.join()


def until_resumed(ssh: Ssh) -> None:
    """The update was ended by what runs as the host comes up, and by no one else."""
    until(lambda: ssh("mountpoint --quiet /srv/gitea").returncode == 0, "the host is up")
    until(lambda: ssh("sudo test -e /srv/gitea/.update/journal").returncode == 1, "what was cut off is ended")
    _until_healthy(ssh)


def _until_healthy(ssh: Ssh) -> None:
    until(lambda: ssh("sudo ops health --json").returncode == 0, "the site is well again")
    assert ssh("systemctl list-units --failed --plain --no-legend").stdout == ""
