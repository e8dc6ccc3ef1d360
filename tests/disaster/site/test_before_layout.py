"""The code of this tree takes over a site that older code deployed, backed up and updated.

The older code is commit BEFORE of this repository's history. It deploys a local site of its own, beside that of the other
rehearsals. The states in tests/data/before-layout are of the same commit.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ground import environment, image_set, registry
from ground.container import RunContext
from ops.config import monitoring_files
from ops.images.pins import variable_of
from tests.disaster.site.conftest import change, reset_site, script_for_gitea
from tests.disaster.site.test_killed_backup_and_restore import kill_at_step
from tests.support import deployed_site as e2e
from tests.support.deployed_site import Account, DeployedSite, Git, Ssh, head_of, ops, push, until
from tests.support.updated_site import issue, titles, version_of

BEFORE = "f6721f2999dd554800f10c4ea8c4766d107f55fd"
ROOT = Path(__file__).parents[3]
NEW_IMAGES = {"HAPROXY_IMAGE", *map(variable_of, monitoring_files.SERVICES)}
_DEPLOY_SECONDS, _DOWN_SECONDS = 1800, 300
# Runs the old code alone: makes a test environment, deploys, and removes everything when standard input closes.
_DRIVER = """import json, os, subprocess, sys
from ground import aws, run, stand
from ground.images import OPS_BASE
with stand.standing(run.REPOSITORY / "sites/local.toml", lambda line: print(line, file=sys.stderr, flush=True)) as raised:
    more = {**aws.CREDENTIALS, "OPS_BASE_IMAGE": raised.images.local(OPS_BASE)}
    argv = [sys.executable, "-m", "ops", "deploy", "--site", str(raised.site_file)]
    subprocess.run(argv, check=True, stdout=sys.stderr, env={**os.environ, **more}, timeout=1800)
    print(json.dumps({"site": str(raised.site_file), "authorities": str(raised.authorities), "environment": more}), flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class OldSite:
    """The site that the old code deployed, and how to reach it."""

    file: Path
    site: DeployedSite
    ssh: Ssh

    def deploy(self) -> subprocess.CompletedProcess[str]:
        """Deploy it with the code of this tree."""
        argv = [sys.executable, "-m", "ops", "deploy", "--yes", "--json", "--site", str(self.file)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=_DEPLOY_SECONDS
        )

    def bring_new_ops(self) -> None:
        """Install the new `ops` on the host as a deployment that stops after the role ops would; the rest stays old."""
        written = (self.file.parent / ".state/local/ansible/variables.json").read_text(encoding="utf-8")
        variables = json.loads(written.replace("!unsafe ", ""))
        with Path(variables["ops_image_archive"]).open("rb") as archive:
            argv = [*_ssh_argv(self.site), "sudo docker load"]
            subprocess.run(argv, stdin=archive, stdout=subprocess.DEVNULL, check=True, timeout=300)
        reference = variables["ops_image_reference"]
        swap = f"sudo sed -i 's#gitea-suite/ops:[0-9a-f]*#{reference}#' /usr/local/bin/ops"
        assert self.ssh(f"{swap} && grep --quiet {reference} /usr/local/bin/ops").returncode == 0


@pytest.fixture(scope="module")
def old_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldSite]:
    """A local site that the old code deployed; removed after this module's tests."""
    checkout = _checkout(tmp_path_factory.mktemp("before"))
    with _deployed_by(checkout) as said, pytest.MonkeyPatch.context() as patch:
        for name, value in said["environment"].items():
            # The stage may have a base image of its own for the new code.
            if name not in os.environ:
                patch.setenv(name, value)
        file = Path(said["site"])
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        _offer_new_images(file.parent.name)
        password = e2e.secret_of(document, "admin-password")
        site = DeployedSite(document, document["host"]["address"], said["authorities"], "keeper", password)
        yield OldSite(file, site, _ssh(site))


def _offer_new_images(run: str) -> None:
    """Push the images of services that the old code did not have to its registry, as upstream's registry has them."""
    client, built = environment.prepare(print)
    context = RunContext(client, network=f"{run}-network", subnet="", run=run)
    images = [image for variable, image in image_set.pinned().items() if variable in NEW_IMAGES]
    registry.push(context, {image: built.local(image) for image in images})


@pytest.mark.timeout(5400)
def test_this_tree_takes_over_an_old_site_in_the_middle_of_an_update(old_site: OldSite, tmp_path: Path) -> None:
    site, ssh, git = old_site.site, old_site.ssh, e2e.git_at(old_site.site, tmp_path)
    with e2e.timers_stopped(ssh):
        past = _lived_in(site, ssh, git, tmp_path)
        # The new version runs, and the old code is killed while it checks it.
        kill_at_step(ssh, "judge", "update", "postgres", "--to", "18.7", "--yes")
        journal = ssh("sudo cat /srv/gitea/.update/journal").stdout
        assert '"step": "judge"' in journal

        refused = old_site.deploy()
        assert (refused.returncode, "ops update --resume" in refused.stdout) == (8, True), refused.stdout
        assert ssh("sudo cat /srv/gitea/.update/journal").stdout == journal

        old_site.bring_new_ops()
        resumed = ops(ssh, "update", "--resume")
        assert (resumed["outcome"], resumed["service"]) == ("updated", "postgres")
        assert ops(ssh, "update", "--resume")["changed"] is False
        assert _outcomes(ssh) == [*past.outcomes, "updated"]
        _is_right(site, git, tmp_path / "resumed", past, past.second)

        pins = _pins(ssh)
        deployed = old_site.deploy()
        assert deployed.returncode == 0, deployed.stdout
        # The deployment keeps the images that the updates of both have proven, and brings those that the old site lacks.
        now = _pins(ssh)
        assert {name: image for name, image in now.items() if name not in NEW_IMAGES} == pins
        assert now.keys() == pins.keys() | NEW_IMAGES
        assert ssh("sudo systemctl list-units --failed --plain --no-legend").stdout == ""
        again = json.loads(old_site.deploy().stdout)
        assert (again["changed"], again["host_changes"]) == (False, []), again

    # The deployment replaced nginx, which ended the connections that the session keeps.
    past.account.session.close()
    with e2e.timers_stopped(ssh):
        until(lambda: ssh("sudo ops health --json").returncode == 0, "the site is well", 120)
        listed = {each["identity"]: each for each in ops(ssh, "backup", "list")["backups"]}
        assert all(each["whole"] for each in listed.values())
        assert set(past.backups) <= set(listed)
        assert listed[past.backups[-1]]["verified"]
        taken = ops(ssh, "backup", "take")["identity"]
        assert ops(ssh, "backup", "verify")["findings"] == []

        # Back to the snapshots that the old code took before its last update.
        lost = push(git, past.remote, tmp_path / "work", "lost by the rollback")
        assert head_of(site, past.account, "kept") == lost
        gone = ops(ssh, "rollback", "--yes")
        assert (gone["service"], _server(ssh)) == ("postgres", "18.6")
        _is_right(site, git, tmp_path / "back", past, past.second)

        # A backup of the old code, of an older Gitea; then one of the new code.
        assert ops(ssh, "restore", past.backups[0], "--yes")["identity"] == past.backups[0]
        _is_right(site, git, tmp_path / "old", past, past.first)
        assert ops(ssh, "restore", taken, "--yes")["identity"] == taken
        _is_right(site, git, tmp_path / "new", past, past.second)
        assert titles(site, past.account) == {"first", "second"}

        kill_at_step(ssh, "start", "restore", past.backups[0], "--yes")
        assert ops(ssh, "restore", "--resume")["changed"] is True
        _is_right(site, git, tmp_path / "undone", past, past.second)
        assert ssh("sudo ops health --json").returncode == 0


@dataclass(frozen=True)
class Past:
    """The site's history under the old code: commits, backups and the outcomes of updates."""

    account: Account
    remote: str
    first: str
    second: str
    backups: tuple[str, ...]
    outcomes: list[str]


def _lived_in(site: DeployedSite, ssh: Ssh, git: Git, folder: Path) -> Past:
    """Use, back up and update the site with the old code."""
    # A deployment writes the settings again.
    change(ssh, "update", watch_seconds=10, healthy_minutes=2)
    reset_site(ssh, script_for_gitea("28.0.1"))
    account = e2e.make_account(site, e2e.session_for(site, site.administrator, site.password))
    remote = e2e.new_repository(site, account, git, folder / "work")
    first = push(git, remote, folder / "work", "first")
    issue(site, account, "first")
    backups = [ops(ssh, "backup", "take")["identity"]]
    assert ops(ssh, "update", "gitea", "--to", "28.1.1-broken", "--yes", code=5)["ok"] is False
    assert ops(ssh, "update", "gitea", "--to", "28.1.0", "--yes")["outcome"] == "updated"
    second = push(git, remote, folder / "work", "second")
    issue(site, account, "second")
    backups.append(ops(ssh, "backup", "take")["identity"])
    assert ops(ssh, "backup", "verify")["findings"] == []
    assert version_of(site, account) == "28.1.0"
    outcomes = _outcomes(ssh)
    assert outcomes == ["rolled back", "updated"]
    return Past(account, remote, first, second, tuple(backups), outcomes)


def _is_right(site: DeployedSite, git: Git, copy: Path, past: Past, commit: str) -> None:
    """Assert that a clone is sound and at the commit."""
    until(lambda: past.account.session.get(f"{site.url}/api/healthz").status_code == 200, "Gitea answers", 120)
    git("clone", past.remote, str(copy))
    git("fsck", "--strict", directory=copy)
    assert git("rev-parse", "HEAD", directory=copy).stdout.strip() == commit == head_of(site, past.account, "kept")


def _outcomes(ssh: Ssh) -> list[str]:
    return [each["outcome"] for each in ops(ssh, "update", "history")["updates"]]


def _pins(ssh: Ssh) -> dict[str, str]:
    lines = ssh("sudo grep _IMAGE= /opt/gitea-suite/compose/.env").stdout.split()
    return dict(line.split("=", 1) for line in lines)


def _server(ssh: Ssh) -> str:
    return ssh("sudo docker exec gitea-suite-postgres-1 psql -AtU gitea gitea -c 'SHOW server_version'").stdout.split()[
        0
    ]


def _checkout(folder: Path) -> Path:
    """Extract the old code into a folder."""
    there = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{BEFORE}^{{commit}}"], capture_output=True, check=False
    )
    if there.returncode:
        pytest.fail(
            f"commit {BEFORE} is not in this clone: git fetch --unshallow",
            pytrace=False,
        )
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", BEFORE], capture_output=True, check=True).stdout
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive, check=True)
    return folder


@contextmanager
def _deployed_by(checkout: Path) -> Iterator[dict[str, Any]]:
    """Run the old code's site for the length of the block. Its process removes it, even after this one is killed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("E2E_", "OPS_", "AWS_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVER],
        cwd=checkout,
        env=environment | {"PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        # Its own waits are bounded, so is this one.
        said = process.stdout.readline()
        assert said, f"the old code did not deploy its site: exit code {process.wait(_DOWN_SECONDS)}"
        yield json.loads(said)
    finally:
        process.stdin.close()
        assert process.wait(_DOWN_SECONDS) == 0
        process.stdout.close()


def _ssh(site: DeployedSite) -> Ssh:
    argv = _ssh_argv(site)
    return lambda command: subprocess.run([*argv, command], capture_output=True, text=True, check=False, timeout=600)


def _ssh_argv(site: DeployedSite) -> list[str]:
    settings = site.document["host"]
    options = "BatchMode=yes ConnectTimeout=5 IdentitiesOnly=yes StrictHostKeyChecking=no UserKnownHostsFile=/dev/null LogLevel=ERROR"
    chosen = shlex.split(" ".join(f"-o {each}" for each in options.split()))
    return ["ssh", "-F", "none", "-i", settings["ssh_key"], *chosen, f"{settings['ssh_user']}@{site.address}"]
