"""The power fails at the worst moments: the site comes up by itself, with all that was acknowledged."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Account, DeployedSite, Git, Ssh, aws_client, head_of, ops, push, until
from tests.e2e.rehearsals.test_cut_off import GITEA, POSTGRES, state_of

pytestmark = pytest.mark.usefixtures("by_hand")

BACK_SECONDS = 300


@pytest.fixture
def cut_power(site: DeployedSite) -> Callable[[], None]:
    """Cuts the host's power and gives it back: nothing on it has a chance to end in good order."""
    if command := os.environ.get("E2E_CUT_POWER"):
        return lambda: _run(command)
    return lambda: _stop_and_start(site)


def _run(command: str) -> None:
    subprocess.run(shlex.split(command), check=True, timeout=BACK_SECONDS)


def _stop_and_start(site: DeployedSite) -> None:
    compute = aws_client(site.document, "ec2")
    chosen = [
        {"Name": "tag:Name", "Values": [site.document["name"]]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    ((instance,),) = [each["Instances"] for each in compute.describe_instances(Filters=chosen)["Reservations"]]
    one = [instance["InstanceId"]]
    compute.stop_instances(InstanceIds=one, Force=True)
    compute.get_waiter("instance_stopped").wait(InstanceIds=one)
    compute.start_instances(InstanceIds=one)


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
    _until_well(ssh)
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
    _cut_off_at(ssh, cut_power, step, "restore", "--yes")
    _until_well(ssh)
    # What was begun was undone as the host came up, and visitors are let in.
    assert head_of(site, account, "kept") == now
    assert push(git, repository, tmp_path / "work", "after") == head_of(site, account, "kept")
    assert ops(ssh, "restore", "--resume")["changed"] is False


def _cut_off_at(ssh: Ssh, cut_power: Callable[[], None], step: str, *arguments: str) -> None:
    """Run a verb on the host, and cut the power when it begins a step."""
    # The verb stands still from there on: the blow falls in this step and in no other.
    script = (
        f'ops {shlex.join(arguments)} 2>&1 | while read -r line; do [ "$line" = "== {step}" ] && '
        "docker pause $(docker ps --quiet --filter label=gitea-suite.verb) && touch /run/begun; done"
    )
    running = threading.Thread(target=ssh, args=[f"sudo sh -c {shlex.quote(script)}"])
    running.start()
    until(lambda: ssh("test -e /run/begun").returncode == 0, f"{step} has begun")
    cut_power()
    running.join()


def _until_well(ssh: Ssh) -> None:
    until(lambda: ssh("sudo ops health --json").returncode == 0, "the site is well again")
    assert ssh("systemctl list-units --failed --plain --no-legend").stdout == ""
