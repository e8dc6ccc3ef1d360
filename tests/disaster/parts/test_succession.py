"""One nginx takes another's place beside it, and a push that is under way ends before Gitea is stopped: on the real stack."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ops.errors import Refused
from ops.stack import maintenance, nginx_handover
from ops.stack.nginx_handover import NginxStack
from ops.world import World
from ops.world.containers import Containers
from ops.world.https import Https
from tests.support import fakes
from tests.support.compose_stack import COMPOSE, DOMAIN, Answer, Stack, git_environment, run, wait_until
from tests.support.load_clients import LoadClients, throttled_port

SITE = replace(fakes.site(), domain=DOMAIN)
PUSHES = "/owner/project.git/info/refs?service=git-receive-pack"


@contextmanager
def slow_push(stack: Stack, operator: dict[str, str], folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A push to a new repository that is under way for about five seconds; it has begun."""
    document = json.dumps({"name": name}).encode()
    headers = {"Content-Type": "application/json", **operator}
    assert stack.ask("/api/v1/user/repos", method="POST", body=document, headers=headers).status == 201
    folder.mkdir()
    (folder / "large.bin").write_bytes(ssl.RAND_bytes(1024 * 1024))
    with throttled_port("127.0.0.1", stack.port("door", 443), 220_000) as port:
        environment = git_environment(stack, operator, port)
        for argv in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "large"]):
            run("git", *argv, cwd=folder, env=environment)
        argv = ["git", "push", "--quiet", f"https://{DOMAIN}:{port}/operator/{name}.git", "main"]
        with subprocess.Popen(argv, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as push:
            containers = Containers()
            wait_until(lambda: maintenance.pushes_in(containers.command_lines(stack.project, "gitea")) > 0)
            yield push


def has_arrived(stack: Stack, operator: dict[str, str], folder: Path, name: str) -> bool:
    """Tell whether the branch is there as it was pushed."""
    address = f"https://{DOMAIN}:{stack.port('door', 443)}/operator/{name}.git"
    there = run("git", "ls-remote", address, "refs/heads/main", env=git_environment(stack, operator))
    return there.split()[:1] == run("git", "rev-parse", "main", cwd=folder).split()


@pytest.fixture
def world(stack: Stack) -> World:
    """The doors of `ops`, of which the web's trusts the certificate made here."""
    doors = World(SITE, print)
    doors.https = Https((stack.folder / "ca.pem").read_text())
    return doors


@pytest.fixture
def other_image(stack: Stack) -> Iterator[str]:
    """Another name for nginx's image: what an update would run."""
    name = f"{stack.project}/nginx:next"
    run("docker", "tag", stack.images["NGINX_IMAGE"], name)
    yield name
    run("docker", "rmi", name)


def nginx_stack_of(stack: Stack) -> NginxStack:
    """Where `ops` finds nginx here."""
    files = (str(COMPOSE / "compose.yaml"), str(stack.folder / "override.yaml"))
    return NginxStack(
        stack.project, COMPOSE, files, ("--env-file", str(stack.folder / ".env")), stack.folder / "nginx.lock"
    )


def test_another_nginx_takes_over_under_load_with_a_push_in_flight_and_no_request_fails(
    stack: Stack, operator: dict[str, str], world: World, other_image: str, tmp_path: Path
) -> None:
    way, target = (stack.address("door", "web"), 443), nginx_stack_of(stack)
    clients = LoadClients(*way, DOMAIN, stack.trust(), "/.well-known/nginx-health", 204, fresh=3, kept=3)
    with clients, slow_push(stack, operator, tmp_path / "work", "over") as push:
        there = nginx_handover.replace_nginx(SITE, world, other_image, stack=target, drain_seconds=60)
        assert push.wait(30) == 0, push.stderr and push.stderr.read()
        back = nginx_handover.replace_nginx(SITE, world, stack.images["NGINX_IMAGE"], stack=target, drain_seconds=60)
        clients.await_served(1000, seconds=60)
    assert clients.failures == {}
    assert clients.reused > 100
    assert clients.served - clients.reused > 100
    assert [there.changed, there.cut, back.changed, back.cut] == [True, False, True, False]
    assert has_arrived(stack, operator, tmp_path / "work", "over")
    # It is what Compose would have made: it has nothing to do.
    nginx = stack.container("nginx")
    stack.compose("up", "--detach", "--wait")
    assert stack.container("nginx") == nginx
    assert stack.inspect("nginx")["HostConfig"]["ReadonlyRootfs"]


def test_an_image_that_is_no_nginx_is_refused_and_no_visitor_meets_it(stack: Stack, world: World) -> None:
    nginx = stack.container("nginx")
    with pytest.raises(Refused, match="fails its smoke test"):
        nginx_handover.replace_nginx(SITE, world, stack.images["DOOR_IMAGE"], stack=nginx_stack_of(stack))
    assert stack.container("nginx") == nginx
    for listed in (["container", "ls", "--all"], ["network", "ls"]):
        assert run("docker", *listed, "--quiet", "--filter", f"name={stack.project}-trial") == ""


def test_another_door_takes_nginx_with_it_and_the_site_answers_again(stack: Stack) -> None:
    name = f"{stack.project}/busybox:next"
    run("docker", "tag", stack.images["DOOR_IMAGE"], name)
    door, nginx = stack.container("door"), stack.container("nginx")
    settings = stack.folder / ".env"
    before = settings.read_text()
    settings.write_text(re.sub("^DOOR_IMAGE=.*$", f"DOOR_IMAGE={name}", before, flags=re.MULTILINE))
    try:
        # As an update does it: these two and nothing else.
        stack.compose("up", "--detach", "--no-deps", "--wait", "door", "nginx")
        wait_until(lambda: stack.ask("/api/healthz").status == 200)
        assert {stack.container("door"), stack.container("nginx")}.isdisjoint({door, nginx})
    finally:
        settings.write_text(before)
        stack.compose("up", "--detach", "--wait")
        run("docker", "rmi", name)


def test_a_push_in_flight_ends_before_gitea_is_stopped_and_everyone_else_is_told_why(
    stack: Stack, operator: dict[str, str], world: World, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    site = replace(SITE, gitea=replace(SITE.gitea, ssh_port=port))
    reason = "It is being updated to 28.2.0."
    with slow_push(stack, operator, tmp_path / "work", "drained") as push:
        asked: list[Answer] = []
        second = threading.Timer(1, lambda: asked.append(stack.ask(PUSHES)))
        second.start()
        with maintenance.maintenance_mode(site, world, reason, project=stack.project) as absence:
            assert push.wait(1) == 0, push.stderr and push.stderr.read()
            absence.stop()
            second.join()
            assert [(each.status, reason.encode() in each.body) for each in asked] == [(503, True)]
            page = stack.ask("/")
            assert (page.status, page.all("Retry-After"), reason.encode() in page.body) == (503, ["30"], True)
            options = [f"-o{each}" for each in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")]
            ssh = ["ssh", *options, "-oBatchMode=yes", "-p", str(port), "git@127.0.0.1"]
            said = subprocess.run(ssh, capture_output=True, text=True, check=False, timeout=20)
            assert f"Gitea is away for a moment. {reason} Try again in a minute." in said.stderr
            absence.start()
            wait_until(lambda: stack.inspect("gitea")["State"]["Health"]["Status"] == "healthy")
    wait_until(lambda: stack.ask("/api/healthz").status == 200)
    assert has_arrived(stack, operator, tmp_path / "work", "drained")
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", port)):
        pass
