"""Helpers of the contract tests: PostgreSQL and Gitea in their own containers, git on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.models.networks import Network

ADMIN, PASSWORD = "operator", "Correct-Horse-7"
# The capabilities that the rootful image needs; compose/ must not add more.
CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"]
METRICS_TOKEN = "metrics-of-the-contract"
_DATABASE_PASSWORD = 'pass#word; with `odd` "signs"'
_START_SECONDS = 60.0


def eventually(condition: Callable[[], bool], seconds: float = _START_SECONDS, pause: float = 0.1) -> None:
    """Return once the condition holds; raise AssertionError when it does not within that many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{condition} is not true after {seconds:g} s"
        time.sleep(pause)


def execute(container: Container, command: list[str], user: str = "") -> subprocess.CompletedProcess[str]:
    """Return the finished command in a container.

    Not with docker-py: it loses what a command writes before its answer has been read (docker/api/client.py reads the socket beneath a buffer).
    """
    named = ["--user", user] if user else []
    argv = ["docker", "exec", *named, str(container.id), *command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def executed(container: Container, command: list[str], user: str = "") -> tuple[int, str]:
    """Return exit code and output of a command in a container: stdout, then stderr."""
    done = execute(container, command, user)
    return done.returncode, done.stdout + done.stderr


@dataclass
class Bench:
    """A temporary network with its containers and volumes; `remove` removes all of them."""

    client: DockerClient
    run: str
    network: Network
    containers: list[Container] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    @classmethod
    def on(cls, client: DockerClient, run: str) -> Bench:
        """Return a new bench with the run's name and label."""
        name = f"{run}-contract-{secrets.token_hex(3)}"
        return cls(client, name, client.networks.create(name, labels={"gitea-suite.run": run}))

    def start(self, name: str, image: str, **options: Any) -> Container:
        """Start a container on the network, known there by its name."""
        container = self.client.containers.run(
            image,
            detach=True,
            name=f"{self.run}-{name}",
            network=self.network.name,
            labels=self.network.attrs["Labels"],
            **options,
        )
        self.containers.append(container)
        return container

    def volume(self) -> str:
        """Return a new volume's name."""
        volume = self.client.volumes.create(labels=self.network.attrs["Labels"])
        self.volumes.append(str(volume.id))
        return str(volume.id)

    def remove(self) -> None:
        """Remove all containers, volumes and the network."""
        for container in self.containers:
            with contextlib.suppress(NotFound):
                container.remove(force=True, v=True)
        for volume in self.volumes:
            self.client.volumes.get(volume).remove(force=True)
        self.network.remove()


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server with one database per Gitea."""

    container: Container

    @classmethod
    def on(cls, bench: Bench, image: str, name: str = "postgres") -> Postgres:
        """Return a running server."""
        environment = {"POSTGRES_USER": "gitea", "POSTGRES_PASSWORD": _DATABASE_PASSWORD}
        container = bench.start(name, image, environment=environment, command=["postgres", "-c", "fsync=off"])
        server = cls(container)
        eventually(server.ready)
        return server

    @property
    def host(self) -> str:
        """The server's name on the network."""
        return str(self.container.name)

    def ready(self) -> bool:
        """Whether it accepts connections over TCP; the temporary server of the first start does not."""
        try:
            return bool(self.container.exec_run(["pg_isready", "-h", "127.0.0.1", "-U", "gitea"]).exit_code == 0)
        except APIError:
            return False

    def create(self, template: str = "template0") -> str:
        """Return the name of a new database, a copy of `template`."""
        name = f"gitea_{secrets.token_hex(4)}"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def sql(self, database: str, statement: str) -> str:
        """Return the result of a statement, in psql's unaligned form."""
        command = ["psql", "-h", "/var/run/postgresql", "-U", "gitea", "-d", database, "-XAtqc", statement]
        code, output = executed(self.container, command)
        assert code == 0, output
        return output.strip()

    def version(self, database: str) -> int:
        """Return Gitea's migration version in the database."""
        return int(self.sql(database, "SELECT version FROM version WHERE id = 1"))


@dataclass(frozen=True)
class Gitea:
    """A Gitea container."""

    container: Container
    database: str

    @property
    def address(self) -> str:
        """The container's address; it changes with a restart."""
        self.container.reload()
        return str(next(iter(self.container.attrs["NetworkSettings"]["Networks"].values()))["IPAddress"])

    @property
    def url(self) -> str:
        """The URL of the web server."""
        return f"http://{self.address}:3000"

    def git_url(self, repository: str, user: str = ADMIN, password: str = PASSWORD) -> str:
        """The address to clone from over HTTP, with credentials."""
        return f"http://{user}:{password}@{self.address}:3000/{repository}.git"

    def ssh_url(self, repository: str) -> str:
        """The address to clone from over ssh."""
        return f"ssh://git@{self.address}:22/{repository}.git"

    def get(self, path: str, **options: Any) -> requests.Response:
        """Return the answer to GET, without a login unless `auth` or headers give one."""
        return requests.get(f"{self.url}{path}", timeout=20, allow_redirects=False, **options)

    def api(self, method: str, path: str, document: object = None, **options: Any) -> requests.Response:
        """Return the answer to an API request, as the administrator unless `auth` or headers give another login."""
        if "headers" not in options:
            options.setdefault("auth", (ADMIN, PASSWORD))
        return requests.request(method, f"{self.url}/api/v1{path}", json=document, timeout=30, **options)

    def health(self) -> int:
        """Return the health check's status; 0 without an answer."""
        try:
            return self.get("/api/healthz").status_code
        except requests.RequestException:
            return 0

    def run(self, *words: str, user: str = "git") -> tuple[int, str]:
        """Return exit code and output of a gitea command in the container."""
        return executed(self.container, ["gitea", *words], user)

    def processes(self) -> str:
        """Return the command lines of all processes in the container."""
        # Wide output: the engine's COLUMNS would cut the lines.
        return str(self.container.top(ps_args="-eww -o pid,args")["Processes"])

    def logs(self) -> str:
        """Return the whole log."""
        return str(self.container.logs().decode())

    def status(self) -> str:
        """Return the container's state: running, exited ..."""
        self.container.reload()
        return str(self.container.status)

    def create_admin(self) -> None:
        """Make the first account."""
        code, output = self.run(
            "admin",
            "user",
            "create",
            "--username",
            ADMIN,
            "--password",
            PASSWORD,
            "--email",
            "operator@gitea.test",
            "--admin",
            "--must-change-password=false",
        )
        assert code == 0, output

    def create_user(self, name: str) -> None:
        """Make an ordinary account with the common password."""
        document = {
            "username": name,
            "email": f"{name}@gitea.test",
            "password": PASSWORD,
            "must_change_password": False,
        }
        answer = self.api("POST", "/admin/users", document)
        assert answer.status_code == 201, answer.text

    def create_repository(self, name: str, **requested: object) -> str:
        """Create a repository of the administrator and return its full name."""
        answer = self.api("POST", "/user/repos", {"name": name, **requested})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["full_name"])

    def remove(self) -> None:
        """Remove its container."""
        self.container.remove(force=True, v=True)


@dataclass(frozen=True)
class Fleet:
    """Starts Gitea at any release on the bench."""

    bench: Bench
    postgres: Postgres
    image: Callable[[str], str]

    def start(
        self,
        tag: str,
        database: str = "",
        volume: str = "",
        environment: Mapping[str, str] | None = None,
        command: list[str] | None = None,
        entrypoint: list[str] | None = None,
    ) -> Gitea:
        """Start a release on a database (by default a new one) and a volume, without waiting for it."""
        database = database or self.postgres.create()
        name = f"gitea-{secrets.token_hex(3)}"
        container = self.bench.start(
            name,
            self.image(tag),
            command=command,
            entrypoint=entrypoint,
            cap_drop=["ALL"],
            cap_add=CAPABILITIES,
            security_opt=["no-new-privileges"],
            environment={**self._settings(database), **(environment or {})},
            volumes={volume: {"bind": "/data", "mode": "rw"}} if volume else {},
        )
        return Gitea(container, database)

    def healthy(self, tag: str, **options: Any) -> Gitea:
        """Start a release and wait until it is healthy."""
        gitea = self.start(tag, **options)
        eventually(lambda: gitea.health() == 200 or gitea.status() == "exited")
        assert gitea.status() == "running", gitea.logs()
        return gitea

    def _settings(self, database: str) -> dict[str, str]:
        return {
            "GITEA__database__DB_TYPE": "postgres",
            "GITEA__database__HOST": f"{self.postgres.host}:5432",
            "GITEA__database__NAME": database,
            "GITEA__database__USER": "gitea",
            "GITEA__database__PASSWD": _DATABASE_PASSWORD,
            "GITEA__security__INSTALL_LOCK": "true",
        }


@dataclass(frozen=True)
class Worktree:
    """git in its own folder, without the settings of this machine."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def at(cls, folder: Path) -> Worktree:
        """Return git with an identity and an ssh key beside `folder`."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        key = folder.parent / "key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        options = ("IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        ssh = " ".join(["ssh", "-i", str(key), *(f"-o {option}" for option in options)])
        names = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "Tester"), ("EMAIL", "tester@gitea.test"))
        }
        return cls(
            folder,
            {
                "PATH": os.environ["PATH"],
                "HOME": str(folder.parent),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_SSH_COMMAND": ssh,
                "LC_ALL": "C.UTF-8",
                **names,
                # Random data does not compress, and the attempt takes longer than the transfer.
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "core.compression",
                "GIT_CONFIG_VALUE_0": "0",
            },
        )

    @property
    def public_key(self) -> str:
        """The key's public half."""
        return (self.folder.parent / "key.pub").read_text().strip()

    def git(self, *words: str, folder: Path | None = None) -> str:
        """Return the output of git; raises AssertionError when it fails."""
        done = self.attempt(*words, folder=folder)
        assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def attempt(self, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Return the finished git process."""
        return subprocess.run(
            ["git", *words],
            cwd=folder or self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def begin(self) -> Worktree:
        """Create an empty repository in the folder."""
        self.folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        return self

    def commit(self, name: str, content: bytes) -> str:
        """Commit a file; return the commit."""
        (self.folder / name).write_bytes(content)
        self.git("add", name)
        self.git("commit", "-q", "-m", f"Add {name}")
        return self.git("rev-parse", "HEAD")

    def clone_of(self, url: str, name: str) -> str:
        """Clone into a sibling folder and return the checked-out commit."""
        target = self.folder.parent / name
        self.git("clone", "-q", url, str(target), folder=self.folder.parent)
        return self.git("rev-parse", "HEAD", folder=target)


@contextlib.contextmanager
def bench_on(client: DockerClient, run: str) -> Iterator[Bench]:
    """A bench for the length of the block."""
    bench = Bench.on(client, run)
    try:
        yield bench
    finally:
        bench.remove()
