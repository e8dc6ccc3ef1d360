"""The part of the stack that serves requests, and clients that are under way while Gitea is stopped."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from ops.world.containers import Containers
from tests.support.compose_stack import DOMAIN, Stack, git_environment, lay_out, run, wait_until

SERVING = ("postgres", "gitea", "door", "nginx", "haproxy")


@contextmanager
def serving_stack(images: Mapping[str, str], run_id: str, name: str, folder: Path, **settings: str) -> Iterator[Stack]:
    """Run Gitea, its database, nginx and HAProxy with a certificate, and remove them afterwards.

    ``settings`` replace variables of .env.
    """
    stack = lay_out(run_id, name, folder, images)
    written = (folder / ".env").read_text().splitlines()
    kept = [line for line in written if line.partition("=")[0] not in settings]
    (folder / ".env").write_text("\n".join([*kept, *(f"{key}={value}" for key, value in settings.items()), ""]))
    stack.install_certificate()
    try:
        stack.compose("up", "--detach", "--wait", *SERVING)
        wait_until(lambda: stack.ask("/api/healthz").status == 200)
        yield stack
    finally:
        stack.remove()


def hold(stack: Stack, *arguments: str) -> str:
    """Run `hold` in the container of HAProxy, as `ops` does, and return its output; raises AssertionError when it fails."""
    ran = Containers().execute(stack.project, "haproxy", ["hold", *arguments])
    assert ran.code == 0, ran.output
    return ran.output


def waiting(stack: Stack) -> int:
    """Return how many requests wait."""
    return int(json.loads(hold(stack, "status"))["waiting"])


T = TypeVar("T")


@dataclass
class Background(Generic[T]):
    """A call in a thread of its own: its result or error, and the seconds that it took."""

    call: Callable[[], T]
    results: list[T] = field(default_factory=list)
    error: Exception | None = None
    seconds: float = 0.0
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self.results.append(self.call())
        except Exception as error:
            self.error = error
        self.seconds = time.monotonic() - began

    def value(self, seconds: float = 60) -> T:
        """Wait for the end and return the result; raises the call's error."""
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"still running after {seconds:g} s"
        if self.error:
            raise self.error
        return self.results[0]


def make_repository(stack: Stack, operator: Mapping[str, str], name: str) -> str:
    """Create an empty repository and return its HTTPS URL."""
    headers = {"Content-Type": "application/json", **operator}
    body = json.dumps({"name": name}).encode()
    assert stack.ask("/api/v1/user/repos", method="POST", body=body, headers=headers).status == 201
    return f"https://{DOMAIN}:{stack.port('door', 443)}/operator/{name}.git"


def commit(stack: Stack, operator: Mapping[str, str], folder: Path, size: int) -> dict[str, str]:
    """Make a work tree with one commit of ``size`` random bytes; return git's environment."""
    environment = git_environment(stack, operator)
    folder.mkdir()
    with (folder / "large.bin").open("wb") as file, Path("/dev/urandom").open("rb") as random:
        file.write(random.read(size))
    for argv in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "large"]):
        run("git", *argv, cwd=folder, env=environment)
    return environment


def ssh_url(
    stack: Stack, operator: Mapping[str, str], folder: Path, name: str, title: str = "test"
) -> tuple[str, dict[str, str]]:
    """Give the operator an ssh key; return a repository's URL over ssh and git's environment for it."""
    key = folder / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    body = json.dumps({"title": title, "key": key.with_suffix(".pub").read_text().strip()}).encode()
    headers = {"Content-Type": "application/json", **operator}
    assert stack.ask("/api/v1/user/keys", method="POST", body=body, headers=headers).status == 201
    options = "-o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    environment = {**git_environment(stack, operator), "GIT_SSH_COMMAND": f"ssh -i {key} {options}"}
    return f"ssh://git@127.0.0.1:{stack.port('door', 2222)}/operator/{name}.git", environment


def git(environment: Mapping[str, str], *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run git and return its exit code and output."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=cwd, env=dict(environment), capture_output=True, text=True, check=False)
