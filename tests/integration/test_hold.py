"""Requests wait in HAProxy while Gitea is stopped on purpose, and are then served: on the real stack."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.compose_stack import Stack, make_operator, run, wait_until
from tests.support.held_stack import Background, commit, git, hold, make_repository, serving_stack, waiting

REASON = "It is being updated to 28.2.0."


@pytest.fixture(scope="module")
def served(images: Mapping[str, str], run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gitea behind nginx and HAProxy."""
    with serving_stack(images, run_id, "held", tmp_path_factory.mktemp("held"), HOLD_SECONDS="20") as stack:
        yield stack


@pytest.fixture(scope="module")
def login(served: Stack) -> dict[str, str]:
    """The login headers of an administrator."""
    return make_operator(served)


def restart(stack: Stack) -> None:
    """Stop Gitea and start it again, until it is reachable through HAProxy."""
    run("docker", "restart", stack.container("gitea"))
    wait_until(
        lambda: stack.compose("exec", "-T", "haproxy", "sh", "-c", "hold reachable && echo yes", check=False) != ""
    )


def test_a_page_a_post_and_a_push_during_a_restart_are_served_after_it(
    served: Stack, login: dict[str, str], tmp_path: Path
) -> None:
    address = make_repository(served, login, "waits")
    environment = commit(served, login, tmp_path / "work", 3 * 1024 * 1024)
    document = json.dumps({"title": "posted", "body": "x" * 5000}).encode()
    headers = {"Content-Type": "application/json", **login}

    hold(served, "all", "60", REASON)
    page = Background(lambda: served.ask("/api/healthz").status)
    issues = "/api/v1/repos/operator/waits/issues"
    post = Background(lambda: served.ask(issues, method="POST", body=document, headers=headers).status)
    push = Background(lambda: git(environment, "push", "--quiet", address, "main", cwd=tmp_path / "work"))
    wait_until(lambda: waiting(served) == 3)
    began = time.monotonic()
    restart(served)
    away = time.monotonic() - began
    assert waiting(served) == 3
    hold(served, "none")

    assert (page.value(), post.value()) == (200, 201)
    done = push.value()
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    assert page.seconds > away
    assert [each["body"] for each in json.loads(served.ask(issues, headers=login).body)] == ["x" * 5000]
    listed = git(environment, "ls-remote", address, "refs/heads/main").stdout.split()[0]
    assert listed == run("git", "rev-parse", "main", cwd=tmp_path / "work").strip()
