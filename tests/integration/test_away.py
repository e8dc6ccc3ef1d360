"""What a real ssh client shows its user while Gitea's own server is stopped."""

from __future__ import annotations

import socket
import subprocess

import pytest

from ops.world.ssh_notice import SshNotice

SENTENCE = "Gitea is away for a moment. It is being updated to 28.1.0. Try again in a minute."


@pytest.fixture
def port() -> int:
    """A port of this machine that no one has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _ssh(port: int) -> subprocess.CompletedProcess[str]:
    options = ["-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-F", "none"]
    argv = ["ssh", *options, "-p", str(port), "git@127.0.0.1"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


def test_an_ssh_client_shows_the_sentence_as_often_as_it_comes(port: int) -> None:
    with SshNotice().notice(port, SENTENCE) as said:
        assert said
        for done in (_ssh(port), _ssh(port)):
            assert done.returncode == 255
            assert f"Received disconnect from 127.0.0.1 port {port}:7: {SENTENCE}" in done.stderr


def test_git_shows_it_too(port: int) -> None:
    with SshNotice().notice(port, SENTENCE):
        argv = ["git", "-c", "core.sshCommand=ssh -F none -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null"]
        asked = [*argv, "ls-remote", f"ssh://git@127.0.0.1:{port}/a/b.git"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
        assert SENTENCE in done.stderr


def test_a_client_that_says_nothing_is_told_as_well_and_keeps_no_one_from_ending(port: int) -> None:
    silent = socket.socket()
    with silent, SshNotice().notice(port, SENTENCE):
        silent.connect(("127.0.0.1", port))
        assert SENTENCE.encode() in silent.makefile("rb").read()


def test_the_port_is_free_afterwards_and_one_that_is_taken_is_said(port: int) -> None:
    with SshNotice().notice(port, SENTENCE), SshNotice().notice(port, SENTENCE) as said:
        assert not said
    with socket.create_server(("127.0.0.1", port)), SshNotice().notice(port, SENTENCE) as said:
        assert not said
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
