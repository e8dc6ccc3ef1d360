"""The deployed site from outside, as seen by users, operators and attackers: the tests know only its site file."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import socket
import ssl
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import testinfra
from requests.adapters import HTTPAdapter
from testinfra.host import Host

from tests.support.ssh_multiplexing import one_connection

# The fixtures and the order of the tests: a conftest imports all of them.
__all__ = [
    "account",
    "admin",
    "by_hand",
    "git",
    "host",
    "pytest_collection_modifyitems",
    "repository",
    "site",
    "ssh",
    "ssh_config",
    "web",
]

# A replaced host has another host key.
_ANY_KEY = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")

# In this order: tests that interrupt the site once, repeatedly, and that destroy it.
LAST = (
    *("test_bit_rot_on_disk.py", "test_reboot.py", "test_full_disk.py", "test_alerts.py"),
    *("test_killed_backup_and_restore.py",),
    *("test_power_failure.py", "test_prune.py", "test_random_sequences.py", "test_update.py"),
    "test_host_and_account_loss.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that interrupt the site last."""
    items.sort(key=lambda item: LAST.index(item.path.name) if item.path.name in LAST else -1)


@dataclass(frozen=True)
class DeployedSite:
    """The facts about the site that a test may use."""

    document: dict[str, Any]
    address: str
    authorities: str
    administrator: str
    password: str

    @property
    def domain(self) -> str:
        return str(self.document["domain"])

    @property
    def url(self) -> str:
        return f"https://{self.domain}"

    @property
    def ssh_port(self) -> int:
        return int(self.document["gitea"].get("ssh_port", 2222))


class _AtAddress(HTTPAdapter):
    """Connects to the site's address for the site's name, instead of DNS."""

    def __init__(self, domain: str, address: str) -> None:
        self._domain, self._address = domain, address
        super().__init__()

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        tls = (
            {"assert_hostname": self._domain, "server_hostname": self._domain}
            if request.url.startswith("https")
            else {}
        )
        _, context = self.build_connection_pool_key_attributes(request, verify, cert)
        scheme, port = ("https", 443) if tls else ("http", 80)
        request.headers["Host"] = self._domain
        return self.poolmanager.connection_from_host(
            self._address, port=port, scheme=scheme, pool_kwargs={**context, **tls}
        )


@pytest.fixture(scope="session")
def site() -> DeployedSite:
    path = Path(os.environ["E2E_SITE"])
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    address = document["host"].get("address") or socket.gethostbyname(document["domain"])
    administrator = document["gitea"].get("admin_username", "operator")
    return DeployedSite(
        document, address, os.environ["E2E_AUTHORITIES"], administrator, secret_of(document, "admin-password")
    )


def secret_of(document: dict[str, Any], short: str) -> str:
    """Return the current value of one of a site's secrets."""
    client = aws_client(document, "secretsmanager")
    return str(client.get_secret_value(SecretId=f"{document['name']}/{short}")["SecretString"])


def aws_client(document: dict[str, Any], service: str) -> Any:
    """Return a boto3 client for the site's AWS, at the endpoint of the site file."""
    endpoint = document["aws"].get("endpoint_url") or None
    return boto3.client(service, region_name=document["aws"]["region"], endpoint_url=endpoint)


def session_for(site: DeployedSite, user: str = "", password: str = "") -> requests.Session:
    """Return an HTTP session that finds the site and trusts its issuer; with ``user``, signed in."""
    session = requests.Session()
    # A CA bundle from the environment would replace this one.
    session.trust_env = False
    session.mount("https://", _AtAddress(site.domain, site.address))
    session.mount("http://", _AtAddress(site.domain, site.address))
    session.verify = site.authorities or True
    session.auth = (user, password) if user else None
    return session


@pytest.fixture
def web(site: DeployedSite) -> requests.Session:
    """A session without a login."""
    return session_for(site)


@pytest.fixture(scope="session")
def admin(site: DeployedSite) -> requests.Session:
    """The administrator's session."""
    return session_for(site, site.administrator, site.password)


@dataclass(frozen=True)
class Account:
    """An account with its session."""

    name: str
    password: str
    session: requests.Session


def make_account(site: DeployedSite, admin: requests.Session) -> Account:
    """Create a new account."""
    name, password = f"e2e-{secrets.token_hex(4)}", secrets.token_urlsafe(18)
    requested = {
        "username": name,
        "password": password,
        "email": f"{name}@{site.document['zone']}",
        "must_change_password": False,
    }
    answer = admin.post(f"{site.url}/api/v1/admin/users", json=requested)
    assert answer.status_code == 201, answer.text
    return Account(name, password, session_for(site, name, password))


@contextmanager
def new_account(site: DeployedSite, admin: requests.Session) -> Iterator[Account]:
    """Create an account, and purge it after the block."""
    made = make_account(site, admin)
    yield made
    assert admin.delete(f"{site.url}/api/v1/admin/users/{made.name}", params={"purge": "true"}).status_code == 204


@pytest.fixture
def account(site: DeployedSite, admin: requests.Session) -> Iterator[Account]:
    """A new account for the length of a test."""
    with new_account(site, admin) as made:
        yield made


Git = Callable[..., subprocess.CompletedProcess[str]]


def git_at(site: DeployedSite, home: Path) -> Git:
    """Return a function that runs git without personal settings, with the site's address and its authorities."""
    trust = ["-c", f"http.sslCAInfo={site.authorities}"] if site.authorities else []
    find = ["-c", f"http.curloptResolve={site.domain}:443:{site.address}"]
    who = {
        "GIT_AUTHOR_NAME": "E",
        "GIT_AUTHOR_EMAIL": "e@example.org",
        "GIT_COMMITTER_NAME": "E",
        "GIT_COMMITTER_EMAIL": "e@example.org",
    }
    clean = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "PATH": os.environ["PATH"]}

    def run(
        *arguments: str, directory: Path = home, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        argv = ["git", *trust, *find, *arguments]
        done = subprocess.run(
            argv, cwd=directory, env=clean | who | environment, text=True, capture_output=True, check=False, timeout=120
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def git(site: DeployedSite, tmp_path: Path) -> Git:
    """Git with the test's folder as its home."""
    return git_at(site, tmp_path)


@pytest.fixture(scope="session")
def ssh_config(site: DeployedSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ssh configuration for the host."""
    settings = site.document["host"]
    config = tmp_path_factory.mktemp("ssh") / "config"
    through = "" if site.document["network"]["admin_cidrs"] else f"  ProxyCommand {_session_manager(site.document)}\n"
    config.write_text(
        f"Host {site.address}\n  User {settings['ssh_user']}\n  Port {settings.get('ssh_port', 22)}\n"
        f"  IdentityFile {Path(settings['ssh_key']).expanduser()}\n  IdentitiesOnly yes\n"
        f"  StrictHostKeyChecking accept-new\n  UserKnownHostsFile {config.with_name('known_hosts')}\n{through}"
    )
    return config


def _session_manager(document: dict[str, Any]) -> str:
    """The ProxyCommand for a host whose ssh port is closed to all addresses."""
    filters = [
        {"Name": "tag:Name", "Values": [document["name"]]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    ((instance,),) = [
        each["Instances"] for each in aws_client(document, "ec2").describe_instances(Filters=filters)["Reservations"]
    ]
    session = f"aws ssm start-session --target {instance['InstanceId']} --region {document['aws']['region']}"
    return f"{session} --document-name AWS-StartSSHSession --parameters portNumber=%p"


@pytest.fixture(scope="session")
def host(site: DeployedSite, ssh_config: Path) -> Iterator[Host]:
    """The host over ssh with sudo, through one shared connection."""
    with one_connection() as path:
        yield testinfra.get_host(f"ssh://{site.address}", ssh_config=str(ssh_config), sudo=True, controlpath=path)


Ssh = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def ssh(site: DeployedSite, ssh_config: Path) -> Ssh:
    """Run a command on the host over a new connection; exit code 255 means that the host is unreachable."""
    argv = ["ssh", "-F", str(ssh_config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", *_ANY_KEY, site.address]
    return lambda command: subprocess.run([*argv, command], capture_output=True, text=True, check=False, timeout=600)


def head_of(site: DeployedSite, account: Account, repository: str) -> str:
    """Return the head commit of the main branch of an account's repository."""
    answer = account.session.get(f"{site.url}/api/v1/repos/{account.name}/{repository}/branches/main")
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:500]}"
    return str(json.loads(answer.text)["commit"]["id"])


def objects_of(site: DeployedSite, prefix: str = "") -> set[str]:
    """Return the keys of the backup bucket below ``prefix``."""
    pages = aws_client(site.document, "s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=site.document["backup"]["bucket"], Prefix=prefix)
    return {each["Key"] for page in found for each in page.get("Contents", [])}


def uuid_of(ssh: Ssh, subvolume: str) -> str:
    """Return the UUID of a subvolume."""
    return _property(ssh, subvolume, "UUID")


def parent_of(ssh: Ssh, subvolume: str) -> str:
    """Return the UUID of the subvolume of which this one is a snapshot, or "-"."""
    return _property(ssh, subvolume, "Parent UUID")


def _property(ssh: Ssh, subvolume: str, name: str) -> str:
    shown = ssh(f"sudo btrfs subvolume show {subvolume}")
    (found,) = re.findall(rf"^\s*{name}:\s*(\S+)$", shown.stdout, re.MULTILINE)
    return str(found)


def ops(ssh: Ssh, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run an ops command on the host, assert its exit code, and return its JSON document."""
    done = ssh(f"sudo ops {shlex.join(arguments)} --json")
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@contextmanager
def timers_stopped(ssh: Ssh) -> Iterator[None]:
    """Stop the host's timers for the length of the block, and wait for the services that they started."""
    timers = "gitea-suite-backup.timer gitea-suite-drill.timer gitea-suite-update.timer"
    assert ssh(f"sudo systemctl stop {timers}").returncode == 0
    services = "gitea-suite-backup.service gitea-suite-drill.service gitea-suite-update.service"
    running = f"systemctl list-units --no-legend --state=activating {services} | grep --quiet ."
    assert ssh(f"while {running}; do sleep 0.2; done").returncode == 0
    yield
    assert ssh(f"sudo systemctl start {timers}").returncode == 0


@pytest.fixture
def by_hand(ssh: Ssh) -> Iterator[None]:
    """Stop the host's timers for the length of a test."""
    with timers_stopped(ssh):
        yield


def until(ready: Callable[[], bool], what: str, seconds: float = 300) -> None:
    """Wait until ``ready`` is true; raises AssertionError with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def push(git: Git, remote: str, work: Path, message: str, *options: str) -> str:
    """Commit, push, and return the commit."""
    git("commit", "--allow-empty", "--message", message, directory=work)
    git("push", *options, remote, "HEAD:refs/heads/main", directory=work)
    return git("rev-parse", "HEAD", directory=work).stdout.strip()


def new_repository(site: DeployedSite, account: Account, git: Git, work: Path) -> str:
    """Return the remote of a new repository with one push, cloned into ``work``."""
    requested = {"name": "kept", "auto_init": True, "default_branch": "main"}
    assert account.session.post(f"{site.url}/api/v1/user/repos", json=requested).status_code == 201
    remote = f"https://{account.name}:{account.password}@{site.domain}/{account.name}/kept.git"
    git("clone", remote, str(work))
    push(git, remote, work, "before")
    return remote


@pytest.fixture
def repository(site: DeployedSite, account: Account, git: Git, tmp_path: Path) -> str:
    """The remote of a repository with one push, cloned into ``work``."""
    return new_repository(site, account, git, tmp_path / "work")


def tls_context(site: DeployedSite) -> ssl.SSLContext:
    """Return a TLS context that trusts only the site's authorities."""
    return ssl.create_default_context(cafile=site.authorities or None)


@contextmanager
def connected(site: DeployedSite, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the site by its name, for the length of the block."""
    with (
        socket.create_connection((site.address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=site.domain) as connection,
    ):
        yield connection


def tls_connection(site: DeployedSite, version: ssl.TLSVersion, ciphers: str = "ALL") -> str | None:
    """Return the TLS version of a connection with exactly this version, and for 1.2 or older with these ciphers."""
    context = tls_context(site)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with connected(site, context) as connection:
        return connection.version()
