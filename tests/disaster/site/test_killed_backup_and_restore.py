"""Killed backups, prunes and restores, and a paused site that resumes when its backup hangs or is killed."""

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
_LAST_LOCAL_PRUNE = "/var/backups/gitea-suite/tidied"
# The site resumes after at most five seconds; the rest is time for Docker and ssh.
RESUME_SECONDS = 8


def steps_in(output: str) -> list[str]:
    """Return the steps that a verb's output reports, in order."""
    return [line.removeprefix("== ") for line in output.splitlines() if line.startswith("== ") and ":" not in line]


def kill_at_step(ssh: Ssh, step: str, *arguments: str) -> None:
    """Run a verb on the host and kill it when it begins a step, without a chance to undo anything."""
    output = try_kill_at_step(ssh, step, *arguments)
    assert f"== {step}\n" in output, output


def try_kill_at_step(ssh: Ssh, step: str, *arguments: str, seconds: float = 0) -> str:
    """Kill a verb like ``kill_at_step``, ``seconds`` after the step began and only if it begins; returns its output."""
    kill = f"docker kill --signal KILL $(docker ps --quiet --filter label=gitea-suite.verb={arguments[0]})"
    script = (
        f'ops {shlex.join(arguments)} 2>&1 | while read -r line; do echo "$line"; [ "$line" = "== {step}" ] && sleep {seconds} && {kill}; '
        "done; true"
    )
    done = ssh(f"sudo sh -c {shlex.quote(script)}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_paused_site_resumes_by_itself_when_the_backup_hangs_or_is_killed(
    site: DeployedSite, ssh: Ssh, web: requests.Session
) -> None:
    for killed in (False, True):
        # The database stops answering when Gitea is paused: the snapshot cannot be taken.
        script = (
            f'ops backup take --json 2>&1 | while read -r line; do echo "$line"; '
            f'[ "$line" = "== settle" ] && docker pause {POSTGRES} >&2; done'
        )
        ended: list[subprocess.CompletedProcess[str]] = []
        command = f"sudo sh -c {shlex.quote(script)}"
        hang = threading.Thread(target=lambda into, what: into.append(ssh(what)), args=(ended, command))
        hang.start()
        try:
            until(lambda: state_of(ssh, GITEA) == "paused", "Gitea is paused", 60)
            paused = time.monotonic()
            if killed:
                ssh("sudo docker kill --signal KILL $(sudo docker ps --quiet --filter label=gitea-suite.verb)")
            until(lambda: state_of(ssh, GITEA) == "running", "Gitea runs again", RESUME_SECONDS)
            assert time.monotonic() - paused < RESUME_SECONDS
        finally:
            ssh(f"sudo docker unpause {POSTGRES}")
            hang.join(timeout=60)
        output = ended[0].stdout
        assert killed or "resumed it: no backup was made" in output, output
    assert web.get(f"{site.url}/api/healthz").status_code == 200
    ops(ssh, "backup", "take")


def test_a_backup_that_is_killed_at_any_step_does_not_count_as_a_backup_and_the_next_one_completes(
    site: DeployedSite, ssh: Ssh
) -> None:
    steps = steps_in(ssh("sudo ops backup take").stderr)
    assert {"freeze", "database", "data", "copy", "manifest"} <= set(steps)
    for step in steps[:-1]:
        before = objects_of(site, "manifests/")
        kill_at_step(ssh, step, "backup", "take")
        assert objects_of(site, "manifests/") == before
    taken = ops(ssh, "backup", "take")
    assert f"manifests/{taken['identity']}.json" in objects_of(site, "manifests/")
    # The only snapshot is the one that the next backup is compared with.
    assert ssh("sudo ls /srv/gitea/.moment").stdout == f"{taken['identity']}\n"


@pytest.mark.usefixtures("settings")
def test_the_next_local_prune_completes_one_that_was_killed_at_any_moment(site: DeployedSite, ssh: Ssh) -> None:
    change(ssh, "backup", keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0)
    # Before restic has its key, while it forgets, while it prunes, and after the end.
    for seconds in (0, 0.5, 1, 1.5, 2, 4):
        before = objects_of(site, "manifests/")
        assert ssh(f"sudo rm --force {_LAST_LOCAL_PRUNE}").returncode == 0
        assert "== prune\n" in try_kill_at_step(ssh, "prune", "backup", "take", seconds=seconds)
        # By then the backup is in the bucket, and the local prune removed nothing there.
        assert len(objects_of(site, "manifests/") - before) == 1
        assert ops(ssh, "backup", "verify")["findings"] == []
    assert ssh(f"sudo rm --force {_LAST_LOCAL_PRUNE}").returncode == 0
    ops(ssh, "backup", "take")
    assert ssh(f"sudo cat {_LAST_LOCAL_PRUNE}").stdout
    # The last backup and the last verified one, of three parts each, and two base backups of the database.
    assert len(ssh("sudo ls /var/backups/gitea-suite/restic/snapshots").stdout.split()) <= 2 * 3 + 2
    assert ops(ssh, "backup", "verify")["findings"] == []


@pytest.mark.parametrize("options", [(), ("--full-copy",)], ids=["from its snapshot", "full copy"])
def test_the_next_run_undoes_or_completes_a_restore_that_was_killed_at_any_step(
    site: DeployedSite, account: Account, ssh: Ssh, git: Git, repository: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    before = head_of(site, account, "kept")
    ops(ssh, "backup", "take")
    later = push(git, repository, tmp_path / "work", "later")
    steps = steps_in(ssh(shlex.join(("sudo", "ops", "restore", *options, "--yes"))).stderr)
    assert {"fetch", "compare", "switch", "start"} == set(steps)
    assert head_of(site, account, "kept") == before
    push(git, repository, tmp_path / "work", "later still", "--force")
    now = head_of(site, account, "kept")
    assert now != later != before
    for step in steps:
        kill_at_step(ssh, step, "restore", *options, "--yes")
        ops(ssh, "restore", "--resume")
        # nginx may ask for Gitea's new address up to two seconds after the engine calls Gitea healthy.
        until(lambda: account.session.get(f"{site.url}/api/healthz").status_code == 200, "Gitea is served", 60)
        assert head_of(site, account, "kept") == now
    assert ops(ssh, "restore", *options, "--yes")["picture"] is (not options)
    assert head_of(site, account, "kept") == before


def state_of(ssh: Ssh, container: str) -> str:
    """Return a container's state on the host: running, paused or exited."""
    return ssh(f"sudo docker inspect --format '{{{{.State.Status}}}}' {container}").stdout.strip()
