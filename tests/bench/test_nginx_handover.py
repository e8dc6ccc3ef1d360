"""Replacing nginx under load, against `docker compose up`, which recreates the container as other updaters do."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from ground import environment
from ground import image_set as ground_images
from ground import run_registry as ground_run
from ops.gate.benchmarks import Figure
from ops.stack import handover
from ops.world import World
from ops.world.https import Https
from tests.bench.record import record
from tests.support import fakes
from tests.support.compose_stack import COMPOSE, DOMAIN, Stack, lay_out, run
from tests.support.load_clients import LoadClients

SITE = replace(fakes.site(), domain=DOMAIN)
REQUESTS = 20_000
REPLACEMENTS = 4
# The alternative fails at each replacement, so fewer requests suffice.
ALTERNATIVE_REQUESTS = 2_000
_ANSWER = "server { listen 3000; location / { return 200 'from behind'; } }"


@dataclass(frozen=True)
class Figures:
    """The measurements of the load clients while nginx was replaced several times."""

    requests: int
    on_kept_connections: int
    failed: int
    kinds: Mapping[str, int]
    slowest_seconds: float
    seconds_a_swap: float


@pytest.fixture(scope="module")
def nginx_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """nginx with a certificate, and a server instead of Gitea that answers at once."""
    client, made = environment.prepare(print)
    run_context, _, lock = ground_run.new_run(client, print)
    images = {variable: made.local(image) for variable, image in ground_images.pinned().items()}
    stack = lay_out(run_context.run, "blink", tmp_path_factory.mktemp("blink"), images)
    stack.install_certificate()
    answer = stack.folder / "answer.conf"
    answer.write_text(_ANSWER)
    other = f"{stack.project}/nginx:next"
    run("docker", "tag", images["NGINX_IMAGE"], other)
    try:
        stack.compose("up", "--detach", "--wait", "nginx", "haproxy")
        mount = ["--volume", f"{answer}:/etc/nginx/conf.d/default.conf:ro"]
        behind = stack.start_beside("behind", "--network-alias", "gitea", *mount)
        while stack.ask("/").status != 200:
            time.sleep(0.2)
        yield stack
        run("docker", "rm", "--force", behind)
    finally:
        stack.remove()
        run("docker", "rmi", "--force", other)
        ground_run.remove(client, run_context.run)
        lock.close()


def _replaced_under_load(stack: Stack, requests: int, hand_over: Callable[[str], None]) -> Figures:
    """Replace nginx with each image in turn under load, until the clients have had ``requests`` answers."""
    images = [f"{stack.project}/nginx:next", stack.images["NGINX_IMAGE"]] * (REPLACEMENTS // 2)
    seconds = 0.0
    with LoadClients(stack.address("door", "web"), 443, DOMAIN, stack.trust()) as clients:
        for number, image in enumerate(images, 1):
            began = time.monotonic()
            hand_over(image)
            seconds += time.monotonic() - began
            clients.await_served(requests * number // REPLACEMENTS)
    return Figures(
        clients.served + clients.failures.total(),
        clients.reused,
        clients.failures.total(),
        dict(clients.failures),
        round(clients.longest, 2),
        round(seconds / REPLACEMENTS, 1),
    )


def test_no_request_fails_while_nginx_is_replaced_but_some_fail_when_compose_recreates_it(nginx_stack: Stack) -> None:
    target = nginx_stack.handover()
    world = World(SITE, print)
    world.https = Https((nginx_stack.folder / "ca.pem").read_text())

    def hand_over(image: str) -> None:
        assert handover.hand_over(SITE, world, image, stack=target, drain_seconds=120).changed

    def recreate(image: str) -> None:
        command = [*target.compose(nginx_stack.project), "up", "--detach", "--wait", "nginx"]
        subprocess.run(command, cwd=COMPOSE, env={**os.environ, "NGINX_IMAGE": image}, check=True)

    ours = _replaced_under_load(nginx_stack, REQUESTS, hand_over)
    theirs = _replaced_under_load(nginx_stack, ALTERNATIVE_REQUESTS, recreate)
    _report(ours, theirs)
    assert ours.failed == 0
    assert ours.requests >= REQUESTS
    assert theirs.failed > 0


def _report(ours: Figures, theirs: Figures) -> None:
    share = theirs.failed / theirs.requests
    figure = Figure(
        what=f"requests that fail while nginx is replaced {REPLACEMENTS} times under load",
        measured=f"{ours.failed} of {ours.requests}",
        against=f"docker compose up: {theirs.failed} of {theirs.requests}",
        ratio=round(ours.failed / ours.requests / share, 4) if share else None,
        target="0 of >= 20,000",
        met=ours.failed == 0 and ours.requests >= REQUESTS,
    )
    record("nginx replaced", [figure], {"ours": vars(ours), "theirs": vars(theirs)})
