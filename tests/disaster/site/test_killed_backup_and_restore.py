"""Backups and restores that are cut off, and a site that stands still when no one is there any more to let it go on."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.disaster.site.conftest import change
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, head_of, objects_of, ops, push, until

pytestmark = pytest.mark.usefixtures("by_hand")

GITEA, POSTGRES = "gitea-suite-gitea-1", "gitea-suite-postgres-1"
_TIDIED = "/var/backups/gitea-suite/tidied"
# The site goes on after at most five seconds; the rest is Docker's and ssh's.
THAWED_SECONDS = 8


def steps_of(said: str) -> list[str]:
    """Return the steps that a verb went through, as it told them."""
    return [line.removeprefix("== ") for line in said.splitlines() if line.startswith("== ") and ":" not in line]


def cut_off_at(ssh: Ssh, step: str, *arguments: str) -> None:
    """Run a verb on the host and kill it, with no chance to undo anything, when it begins a step."""
    said = kill_at(ssh, step, *arguments)
    assert f"== {step}\n" in said, said


def kill_at(ssh: Ssh, step: str, *arguments: str, seconds: float = 0) -> str:
    """The same, so many seconds later, and where the verb may never come to that step; returns what it told."""
    kill = f"docker kill --signal KILL $(docker ps --quiet --filter label=gitea-suite.verb={arguments[0]})"
    script = (
        f'ops {shlex.join(arguments)} 2>&1 | while read -r line; do echo "$line"; [ "$line" = "== {step}" ] && sleep {seconds} && {kill}; '
        "done; true"
    )
    done = ssh(f"sudo sh -c {shlex.quote(script)}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_site_that_stands_still_goes_on_by_itself_when_the_one_who_stopped_it_hangs_or_is_killed(
    site: DeployedSite, ssh: Ssh, web: requests.Session
) -> None:
    for killed in (False, True):
        # A database that answers no more when Gitea is frozen: the moment cannot be had.
        script = (
            f'ops backup take --json 2>&1 | while read -r line; do echo "$line"; '
            f'[ "$line" = "== settle" ] && docker pause {POSTGRES} >&2; done'
        )
        told: list[subprocess.CompletedProcess[str]] = []
        command = f"sudo sh -c {shlex.quote(script)}"
        hang = threading.Thread(target=lambda into, what: into.append(ssh(what)), args=(told, command))
        hang.start()
        try:
            until(lambda: state_of(ssh, GITEA) == "paused", "Gitea stands still", 60)
            stood = time.monotonic()
            if killed:
                ssh("sudo docker kill --signal KILL $(sudo docker ps --quiet --filter label=gitea-suite.verb)")
            until(lambda: state_of(ssh, GITEA) == "running", "Gitea goes on", THAWED_SECONDS)
            assert time.monotonic() - stood < THAWED_SECONDS
        finally:
            ssh(f"sudo docker unpause {POSTGRES}")
            hang.join(timeout=60)
        said = told[0].stdout
        assert killed or "let go on: no backup was made" in said, said
    assert web.get(f"{site.url}/api/healthz").status_code == 200
    ops(ssh, "backup", "take")


def test_a_backup_that_is_killed_at_any_step_leaves_none_behind_and_the_next_one_is_whole(
    site: DeployedSite, ssh: Ssh
) -> None:
    steps = steps_of(ssh("sudo ops backup take").stderr)
    assert {"freeze", "database", "data", "copy", "manifest"} <= set(steps)
    for step in steps[:-1]:
        before = objects_of(site, "manifests/")
        cut_off_at(ssh, step, "backup", "take")
        assert objects_of(site, "manifests/") == before
    taken = ops(ssh, "backup", "take")
    assert f"manifests/{taken['identity']}.json" in objects_of(site, "manifests/")
    # The one picture that is there is what the next backup is compared with.
    assert ssh("sudo ls /srv/gitea/.moment").stdout == f"{taken['identity']}\n"


@pytest.mark.usefixtures("settings")
def test_a_tidying_that_is_killed_at_any_moment_is_ended_by_the_next(site: DeployedSite, ssh: Ssh) -> None:
    change(ssh, "backup", keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0)
    # Before restic has its key, as it forgets, as it prunes, and when all is done.
    for seconds in (0, 0.5, 1, 1.5, 2, 4):
        before = objects_of(site, "manifests/")
        assert ssh(f"sudo rm --force {_TIDIED}").returncode == 0
        assert "== tidy\n" in kill_at(ssh, "tidy", "backup", "take", seconds=seconds)
        # By then the backup is in the bucket, and whatever was removed here, nothing of it was.
        assert len(objects_of(site, "manifests/") - before) == 1
        assert ops(ssh, "backup", "verify")["findings"] == []
    assert ssh(f"sudo rm --force {_TIDIED}").returncode == 0
    ops(ssh, "backup", "take")
    assert ssh(f"sudo cat {_TIDIED}").stdout
    # The last backup and the last one that was verified, of three parts each, and two bases of the database.
    assert len(ssh("sudo ls /var/backups/gitea-suite/restic/snapshots").stdout.split()) <= 2 * 3 + 2
    assert ops(ssh, "backup", "verify")["findings"] == []


@pytest.mark.parametrize("way", [(), ("--full-copy",)], ids=["of its picture", "fetched"])
def test_a_restore_that_is_killed_at_any_step_is_undone_or_done_by_the_next_run(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, tmp_path: Path, way: tuple[str, ...]
) -> None:
    before = head_of(site, account, "kept")
    ops(ssh, "backup", "take")
    later = push(git, repository, tmp_path / "work", "later")
    steps = steps_of(ssh(shlex.join(("sudo", "ops", "restore", *way, "--yes"))).stderr)
    assert {"fetch", "compare", "switch", "start"} == set(steps)
    assert head_of(site, account, "kept") == before
    push(git, repository, tmp_path / "work", "later still", "--force")
    now = head_of(site, account, "kept")
    assert now != later != before
    for step in steps:
        cut_off_at(ssh, step, "restore", *way, "--yes")
        ops(ssh, "restore", "--resume")
        until(lambda: _health(ssh, GITEA) == "healthy", "Gitea is back", 60)
        assert head_of(site, account, "kept") == now
    assert ops(ssh, "restore", *way, "--yes")["picture"] is (not way)
    assert head_of(site, account, "kept") == before


def state_of(ssh: Ssh, container: str) -> str:
    """Return what the engine on the host says of a container: running, paused, exited."""
    return ssh(f"sudo docker inspect --format '{{{{.State.Status}}}}' {container}").stdout.strip()


def _health(ssh: Ssh, container: str) -> str:
    return ssh(f"sudo docker inspect --format '{{{{.State.Health.Status}}}}' {container}").stdout.strip()
