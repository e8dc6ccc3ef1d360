"""A site during updates, from outside: its versions and data, and visitors and pushes that continue meanwhile."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.deployed_site import Account, DeployedSite, Git, Ssh

GITEA, POSTGRES = "gitea-suite-gitea-1", "gitea-suite-postgres-1"


@dataclass
class Observed:
    """Observations of clients: pages as (status, Retry-After, text), the output of ssh, and reports of verbs."""

    pages: list[tuple[int, str, str]] = field(default_factory=list)
    ssh: list[str] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)

    def counted(self) -> dict[int, int]:
        """Return the number of pages by status."""
        statuses = [status for status, _, _ in self.pages]
        return {status: statuses.count(status) for status in set(statuses)}


@contextmanager
def visitors(site: DeployedSite, account: Account) -> Iterator[Observed]:
    """Read pages and connect by ssh without a pause during the block."""
    observed, over = Observed(), threading.Event()
    argv = ["ssh", "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"]
    argv += ["-oConnectTimeout=60", "-p", str(site.ssh_port), f"git@{site.address}"]

    def read_pages() -> None:
        while not over.is_set():
            answer = account.session.get(f"{site.url}/user/login")
            observed.pages.append((answer.status_code, answer.headers.get("Retry-After", ""), answer.text))
            time.sleep(0.05)

    def connect_by_ssh() -> None:
        while not over.is_set():
            observed.ssh.append(subprocess.run(argv, capture_output=True, text=True, check=False).stderr)
            time.sleep(0.3)

    clients = [threading.Thread(target=each) for each in (read_pages, connect_by_ssh)]
    for each in clients:
        each.start()
    try:
        yield observed
    finally:
        over.set()
        for each in clients:
            each.join()


class SlowPush:
    """A push that waits in the middle of its pack until ``finish`` is called."""

    def __init__(self, site: DeployedSite, account: Account, git: Git, work: Path) -> None:
        (work / "large").write_bytes(secrets.token_bytes(1 << 20))
        before = git("rev-parse", "HEAD", directory=work).stdout.strip()
        git("add", "large", directory=work)
        git("commit", "--message", "slow", directory=work)
        self.commit = git("rev-parse", "HEAD", directory=work).stdout.strip()
        self.answer = b""
        wanted = f"{self.commit}\n^{before}\n".encode()
        argv = ["git", "pack-objects", "--revs", "--stdout", "-q"]
        pack = subprocess.run(argv, cwd=work, input=wanted, capture_output=True, check=True).stdout
        line = f"{before} {self.commit} refs/heads/main\0 report-status"
        self._parts = (f"{len(line) + 4:04x}{line}0000".encode() + pack[:4096], pack[4096:])
        self._where = f"{site.url}/{account.name}/kept.git/git-receive-pack"
        self._session, self._account = account.session, account
        self._resumed = threading.Event()
        self._thread = threading.Thread(target=self._push)

    def begin(self) -> None:
        """Send the first part."""
        self._thread.start()

    def finish(self) -> None:
        """Send the rest, and wait for the answer."""
        self._resumed.set()
        self._thread.join(timeout=60)

    def _push(self) -> None:
        def body() -> Iterator[bytes]:
            yield self._parts[0]
            self._resumed.wait(120)
            yield self._parts[1]

        kind = {"Content-Type": "application/x-git-receive-pack-request"}
        self.answer = self._session.post(self._where, data=body(), headers=kind).content


def version_of(site: DeployedSite, account: Account) -> str:
    """Return Gitea's version by its API."""
    return str(account.session.get(f"{site.url}/api/v1/version").json()["version"])


def image_in_use(ssh: Ssh) -> str:
    """Return the running image of Gitea, after asserting that .env pins it."""
    running = ssh("sudo docker inspect --format '{{.Config.Image}}' gitea-suite-gitea-1").stdout.strip()
    pinned = ssh("sudo grep ^GITEA_IMAGE= /opt/gitea-suite/compose/.env").stdout.strip()
    assert pinned == f"GITEA_IMAGE='{running}'"
    return running


def pinned_tags(ssh: Ssh) -> dict[str, str]:
    """Return the tag of each service in .env, after asserting that the containers run those images."""
    lines = ssh("sudo grep _IMAGE= /opt/gitea-suite/compose/.env").stdout.split()
    pins = {
        line.partition("_IMAGE=")[0].lower().replace("_", "-"): line.partition("'")[2].rstrip("'") for line in lines
    }
    pins["docker-socket-proxy"] = pins.pop("socket-proxy")
    of = "--filter label=com.docker.compose.project=gitea-suite"
    running = ssh(f"sudo docker inspect --format '{{{{.Config.Image}}}}' $(sudo docker ps --quiet {of})").stdout
    assert set(running.split()) == {pin for service, pin in pins.items() if service != "certbot"}
    return {service: pin.partition("@")[0].rpartition(":")[2] for service, pin in pins.items()}


def container_ids(ssh: Ssh) -> list[str]:
    """Return the names and ids of the stack's containers."""
    of = "--filter label=com.docker.compose.project=gitea-suite"
    return sorted(ssh(f"sudo docker ps --all {of} --format '{{{{.Names}}}} {{{{.ID}}}}'").stdout.splitlines())


def migration_in_use(ssh: Ssh) -> str:
    """Return the number of the last migration in the database."""
    query = "SELECT version FROM version"
    return ssh(f"sudo docker exec {POSTGRES} psql -At -U gitea gitea -c '{query}'").stdout.strip()


def database_version(ssh: Ssh) -> str:
    """Return the major version of the running server, and those of the data folder's files: "18 of 18"."""
    query = "SELECT split_part(current_setting($$server_version$$), $$.$$, 1)"
    running = ssh(f"sudo docker exec {POSTGRES} psql -At -U gitea gitea -c '{query}'").stdout.strip()
    # The image of 17 has a volume for its own folder, data, which stays empty.
    found = ssh("sudo sh -c 'cd /srv/gitea/postgresql && ls -d */docker'").stdout.split()
    files = [each.removesuffix("/docker") for each in found]
    return f"{running} of {' and '.join(files)}"


def issue(site: DeployedSite, account: Account, title: str) -> None:
    """Open an issue."""
    where = f"{site.url}/api/v1/repos/{account.name}/kept/issues"
    assert account.session.post(where, json={"title": title}).status_code == 201


def comment(site: DeployedSite, account: Account, text: str) -> None:
    """Comment on the first issue."""
    where = f"{site.url}/api/v1/repos/{account.name}/kept/issues/1/comments"
    assert account.session.post(where, json={"body": text}).status_code == 201


def stored_comments(ssh: Ssh) -> list[str]:
    """Return the text of every comment in the database; the canary's must not be among them."""
    query = "SELECT content FROM comment ORDER BY id"
    return ssh(f"sudo docker exec {POSTGRES} psql -At -U gitea gitea -c '{query}'").stdout.splitlines()


def titles(site: DeployedSite, account: Account) -> set[str]:
    """Return the titles of the open issues."""
    found: list[dict[str, Any]] = json.loads(
        account.session.get(f"{site.url}/api/v1/repos/{account.name}/kept/issues").text
    )
    return {str(each["title"]) for each in found}


def deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Deploy the site; the progress goes to the tests' own standard error."""
    argv = [sys.executable, "-m", "ops", "deploy", *arguments, "--site", os.environ["E2E_SITE"]]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)


def leftovers_of_an_upgrade(ssh: Ssh) -> str:
    """Return the leftovers of a major upgrade: containers and folders."""
    containers = "sudo docker ps --all --quiet --filter name=gitea-conversion"
    return ssh(f"{containers}; sudo ls -d /srv/gitea/.update/anew /srv/gitea/.update/replaced 2>/dev/null").stdout
