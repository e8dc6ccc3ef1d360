"""A new nginx replaces a running one without downtime, and a push ends before Gitea is stopped: on the real stack."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ops.errors import Refused
from ops.stack import handover, maintenance
from ops.world import World
from ops.world.containers import Containers
from ops.world.https import Https
from tests.support import fakes
from tests.support.compose_stack import DOMAIN, Stack, git_environment, run, wait_until
from tests.support.load_clients import LoadClients, throttled_port

SITE = replace(fakes.site(), domain=DOMAIN)
PUSHES = "/owner/project.git/info/refs?service=git-receive-pack"


@contextmanager
def slow_push(stack: Stack, operator: dict[str, str], folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """Start a push to a new repository that takes about five seconds; yields when it is in progress."""
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
    """Tell whether the branch in the remote repository equals the pushed one."""
    address = f"https://{DOMAIN}:{stack.port('door', 443)}/operator/{name}.git"
    listed = run("git", "ls-remote", address, "refs/heads/main", env=git_environment(stack, operator))
    return listed.split()[:1] == run("git", "rev-parse", "main", cwd=folder).split()


@pytest.fixture
def world(stack: Stack) -> World:
    """The adapters of `ops`; the one for HTTPS trusts the test's certificate."""
    adapters = World(SITE, print)
    adapters.https = Https((stack.folder / "ca.pem").read_text())
    return adapters


@pytest.fixture
def other_image(stack: Stack) -> Iterator[str]:
    """Another tag of nginx's image, as an update would run it."""
    name = f"{stack.project}/nginx:next"
    run("docker", "tag", stack.images["NGINX_IMAGE"], name)
    yield name
    run("docker", "rmi", name)


def test_nginx_is_replaced_under_load_during_a_push_without_a_failed_request(
    stack: Stack, operator: dict[str, str], world: World, other_image: str, tmp_path: Path
) -> None:
    endpoint, target = (stack.address("door", "web"), 443), stack.handover()
    clients = LoadClients(*endpoint, DOMAIN, stack.trust(), "/.well-known/nginx-health", 204, fresh=3, kept=3)
    with clients, slow_push(stack, operator, tmp_path / "work", "over") as push:
        forth = handover.hand_over(SITE, world, other_image, stack=target, drain_seconds=60)
        assert push.wait(30) == 0, push.stderr and push.stderr.read()
        back = handover.hand_over(SITE, world, stack.images["NGINX_IMAGE"], stack=target, drain_seconds=60)
        clients.await_served(1000, seconds=60)
    assert clients.failures == {}
    assert clients.reused > 100
    assert clients.served - clients.reused > 100
    assert [forth.changed, forth.cut, back.changed, back.cut] == [True, False, True, False]
    assert has_arrived(stack, operator, tmp_path / "work", "over")
    # The container is as Compose would make it, so Compose does not change it.
    nginx = stack.container("nginx")
    stack.compose("up", "--detach", "--wait")
    assert stack.container("nginx") == nginx
    assert stack.inspect("nginx")["HostConfig"]["ReadonlyRootfs"]


def test_an_image_without_nginx_is_refused_before_visitors_reach_it(stack: Stack, world: World) -> None:
    nginx = stack.container("nginx")
    with pytest.raises(Refused, match="fails its smoke test"):
        handover.hand_over(SITE, world, stack.images["DOOR_IMAGE"], stack=stack.handover())
    assert stack.container("nginx") == nginx
    for listed in (["container", "ls", "--all"], ["network", "ls"]):
        assert run("docker", *listed, "--quiet", "--filter", f"name={stack.project}-trial") == ""


def test_a_new_network_container_is_started_together_with_nginx_and_the_site_answers_again(stack: Stack) -> None:
    name = f"{stack.project}/busybox:next"
    run("docker", "tag", stack.images["DOOR_IMAGE"], name)
    door, nginx = stack.container("door"), stack.container("nginx")
    settings = stack.folder / ".env"
    before = settings.read_text()
    settings.write_text(re.sub("^DOOR_IMAGE=.*$", f"DOOR_IMAGE={name}", before, flags=re.MULTILINE))
    try:
        # As an update does: these two services only.
        stack.compose("up", "--detach", "--no-deps", "--wait", "door", "nginx")
        wait_until(lambda: stack.ask("/api/healthz").status == 200)
        assert {stack.container("door"), stack.container("nginx")}.isdisjoint({door, nginx})
    finally:
        settings.write_text(before)
        stack.compose("up", "--detach", "--wait")
        run("docker", "rmi", name)
