"""What a real ssh client shows its user while Gitea's ssh server is stopped."""

from __future__ import annotations

import socket
import subprocess

import pytest

from ops.world.ssh_notice import SshNotice

SENTENCE = "Gitea is away for a moment. It is being updated to 28.1.0. Try again in a minute."


@pytest.fixture
def port() -> int:
    """A free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _ssh(port: int) -> subprocess.CompletedProcess[str]:
    options = ["-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-F", "none"]
    argv = ["ssh", *options, "-p", str(port), "git@127.0.0.1"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


def test_an_ssh_client_shows_the_notice_on_every_connection(port: int) -> None:
    with SshNotice().notice(port, SENTENCE) as said:
        assert said
        for done in (_ssh(port), _ssh(port)):
            assert done.returncode == 255
            assert f"Received disconnect from 127.0.0.1 port {port}:7: {SENTENCE}" in done.stderr


def test_git_shows_the_notice(port: int) -> None:
    with SshNotice().notice(port, SENTENCE):
        argv = ["git", "-c", "core.sshCommand=ssh -F none -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null"]
        asked = [*argv, "ls-remote", f"ssh://git@127.0.0.1:{port}/a/b.git"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
        assert SENTENCE in done.stderr


def test_a_silent_client_gets_the_notice_and_does_not_delay_the_end(port: int) -> None:
    silent = socket.socket()
    with silent, SshNotice().notice(port, SENTENCE):
        silent.connect(("127.0.0.1", port))
        assert SENTENCE.encode() in silent.makefile("rb").read()


def test_the_port_is_free_afterwards_and_a_taken_port_is_reported(port: int) -> None:
    with SshNotice().notice(port, SENTENCE), SshNotice().notice(port, SENTENCE) as said:
        assert not said
    with socket.create_server(("127.0.0.1", port)), SshNotice().notice(port, SENTENCE) as said:
        assert not said
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
