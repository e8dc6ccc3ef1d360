"""Which images a run uses: the answers of a registry decide, here of one on this machine with small images under upstream's names."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import docker
import pytest

from ground import image_recipes, image_set, registry, set_choice, upstream_images
from ground.container import RunContext
from ground.image_set import ImageSet
from ops.errors import Unavailable
from tests.support.misbehaving import Fault, FaultyProxy, faulty_proxy

ASKED = image_recipes.from_registry()
BUSYBOX = image_recipes.pinned()["DOOR_IMAGE"]
PROXY = image_recipes.pinned()["SOCKET_PROXY_IMAGE"]


@pytest.fixture(scope="module")
def served(mirror: str, run_context: RunContext, built: ImageSet) -> str:
    """A registry with a manifest of every image of the upstream set; three of them are the hermetic images themselves."""
    small = built.local(BUSYBOX)
    registry.push(run_context, dict.fromkeys(ASKED, small))
    registry.push(run_context, {PROXY: built.local(PROXY), image_set.OPS_BASE: built.local(image_set.OPS_BASE)})
    return mirror


@pytest.fixture
def proxy(served: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The registry that this run asks, which records every request; nothing was chosen yet."""
    for name in (set_choice.VARIABLE, set_choice.FOUND):
        # Set first, so that the variables that a choice sets go with the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with faulty_proxy(served, "127.0.0.1") as running:
        monkeypatch.setenv(set_choice.REGISTRY, running.url)
        yield running


def manifests(proxy: FaultyProxy, method: str) -> list[str]:
    return [path for asked, path in proxy.seen if asked == method and "/manifests/" in path]


def test_auto_chooses_upstream_when_the_registry_has_every_image(proxy: FaultyProxy) -> None:
    choice = set_choice.choose()
    assert (choice.name, choice.reason) == ("upstream", f"the registry {proxy.url} has all {len(ASKED)} images")
    assert set(choice.digests) == set(ASKED)
    assert all(digest.startswith("sha256:") for digest in choice.digests.values())
    # Docker Hub counts every GET of a manifest as a pull.
    assert manifests(proxy, "GET") == []
    assert len(manifests(proxy, "HEAD")) == len(ASKED)


MISSING = "gitea/gitea:1.22.6"


def fails(status: int) -> Callable[[str, str], Fault]:
    return lambda method, path: Fault(status)


def lacks_one(method: str, path: str) -> Fault:
    return Fault(404) if path.endswith("gitea/gitea/manifests/1.22.6") else Fault()


@pytest.mark.parametrize(
    ("fault_for", "reason"),
    [
        (fails(401), "answers 401 for repository:"),
        (fails(429), "answers 429 for "),
        (fails(503), "answers 503 for "),
        (lacks_one, f"image {MISSING} is not in the registry"),
        (lambda method, path: Fault(200), "gives no digest of "),
    ],
    ids=["needs a login", "rate limit", "down", "a missing manifest", "not a registry"],
)
def test_auto_falls_back_to_the_hermetic_set_and_has_the_reason(
    proxy: FaultyProxy, fault_for: Callable[[str, str], Fault], reason: str
) -> None:
    proxy.fault_for = fault_for
    choice = set_choice.choose()
    assert choice.name == "hermetic"
    assert reason in choice.reason
    assert choice.digests == {}


@contextmanager
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def silent_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("port", "reason"),
    [(closed_port, "there is no route to the registry "), (silent_port, " did not answer within 5 s")],
)
def test_auto_waits_a_few_seconds_at_most_for_all_answers(
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    port: Callable[[], AbstractContextManager[int]],
    reason: str,
) -> None:
    with port() as number:
        monkeypatch.setenv(set_choice.REGISTRY, f"http://127.0.0.1:{number}")
        began = time.monotonic()
        choice = set_choice.choose()
    assert time.monotonic() - began < set_choice.PATIENCE_SECONDS + 1
    assert (choice.name, reason in choice.reason) == ("hermetic", True), choice.reason


def test_auto_asks_for_all_images_at_the_same_time(proxy: FaultyProxy) -> None:
    # In turn the answers would take half a minute.
    proxy.fault_for = lambda method, path: Fault(wait=2.0) if method == "HEAD" else Fault()
    began = time.monotonic()
    assert set_choice.choose().name == "upstream"
    assert time.monotonic() - began < set_choice.PATIENCE_SECONDS + 1


def test_a_forced_upstream_set_fails_where_the_registry_does_not_answer(
    proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(set_choice.VARIABLE, "upstream")
    proxy.fault_for = fails(429)
    with pytest.raises(Unavailable, match="answers 429"):
        set_choice.choose()


def test_the_processes_of_a_run_ask_the_registry_once(proxy: FaultyProxy) -> None:
    argv = [sys.executable, "-m", "ground", "image-set"]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert len(proxy.seen) == len(ASKED)
    variables = json.loads(printed)
    assert variables["IMAGE_SET"] == "upstream"
    # The registry is away now, and the other processes of the run do not notice.
    proxy.fault_for = fails(503)
    again = subprocess.run(argv, env={**os.environ, **variables}, capture_output=True, text=True, check=True).stdout
    assert json.loads(again) == variables
    assert len(proxy.seen) == len(ASKED)


@pytest.fixture
def pulled(proxy: FaultyProxy, docker_client: docker.DockerClient) -> Iterator[list[str]]:
    """The local names of the images that a test pulls; afterwards all their names are removed."""
    names: list[str] = []
    yield names
    for each in names:
        docker_client.images.remove(each, force=True, noprune=True)
    address = proxy.url.removeprefix("http://")
    for image in docker_client.images.list():
        for digest in image.attrs["RepoDigests"]:
            if digest.startswith(f"{address}/"):
                docker_client.images.remove(digest, force=True, noprune=True)


def test_a_digest_is_pulled_once_kept_in_the_engine_and_restored_when_it_is_lost(
    proxy: FaultyProxy, docker_client: docker.DockerClient, tmp_path: Path, pulled: list[str]
) -> None:
    told: list[str] = []
    made = image_set.build(docker_client, tmp_path, told.append, only=("busybox", "docker-socket-proxy"))
    pulled += made.references.values()
    assert (made.name, set(made.references)) == ("upstream", {BUSYBOX, PROXY, image_set.OPS_BASE})
    assert sorted(line for line in told if line.startswith("pulling")) == sorted(
        f"pulling {each}" for each in (BUSYBOX, PROXY, image_set.OPS_BASE)
    )
    # Docker Hub counts these requests. The engine makes none for a digest that it knows by another name.
    first = manifests(proxy, "GET")
    assert set(first) <= {f"/v2/{repository_of(each)}/manifests/{digest}" for each, digest in made.digests.items()}
    assert len(first) == len(set(first))
    assert image_set.digests(docker_client, made) == made.digests
    image_set.build(docker_client, tmp_path, told.append, only=("busybox", "docker-socket-proxy"))
    for each in made.references:
        assert docker_client.images.get(made.local(each))
    assert manifests(proxy, "GET") == first
    local = made.local(PROXY)
    docker_client.images.remove(local, force=True, noprune=True)
    address = proxy.url.removeprefix("http://")
    try_remove(docker_client, f"{address}/{repository_of(PROXY)}@{made.digests[PROXY]}")
    assert made.local(PROXY) == local
    assert docker_client.images.get(local)
    assert told[-2:] == [f"{PROXY} is missing in the engine", f"pulling {PROXY}"]


def repository_of(reference: str) -> str:
    name = reference.rpartition(":")[0]
    return name if "/" in name else f"library/{name}"


def try_remove(client: docker.DockerClient, reference: str) -> None:
    try:
        client.images.remove(reference, force=True, noprune=True)
    except docker.errors.ImageNotFound:
        # It went with its last name.
        return


def test_a_second_tag_of_a_digest_is_not_pulled_again(
    proxy: FaultyProxy, docker_client: docker.DockerClient, tmp_path: Path, pulled: list[str]
) -> None:
    choice, told = set_choice.choose(), list[str]()
    for reference in ("gitea/gitea:28.1.0", "gitea/gitea:28.0.1"):
        digest = choice.digests[reference]
        upstream_images.provide(docker_client, reference, digest, tmp_path, told.append)
        pulled.append(upstream_images.local_name(reference, digest))
    assert told == ["pulling gitea/gitea:28.1.0"]
    assert len(manifests(proxy, "GET")) <= 1


def test_a_refused_pull_is_unavailable_and_does_not_change_the_set(
    proxy: FaultyProxy, docker_client: docker.DockerClient, tmp_path: Path
) -> None:
    choice = set_choice.choose()
    proxy.fault_for = fails(429)
    with pytest.raises(Unavailable, match=r"nginx:.* cannot be pulled") as caught:
        upstream_images.provide(docker_client, "nginx:1.30.4", choice.digests["nginx:1.30.4"], tmp_path, print)
    assert "IMAGE_SET=hermetic" in caught.value.hint
    assert set_choice.choose() == choice


def test_a_hermetic_image_that_the_engine_has_lost_is_built_again(
    docker_client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in set_choice.Choice("hermetic", "a test").variables().items():
        monkeypatch.setenv(name, value)
    # A recipe of its own: other runs use the images of ground/images.
    folder = tmp_path / "images/lost"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text('upstream = ""\n')
    (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY image.toml /\nLABEL of={tmp_path.name}\n")
    monkeypatch.setattr(image_recipes, "IMAGES", tmp_path / "images")
    monkeypatch.setattr(image_recipes, "DERIVED", tmp_path / "derived")
    told: list[str] = []
    made = image_set.build(docker_client, tmp_path, told.append)
    docker_client.images.remove(made.references["lost"], force=True)
    assert docker_client.images.get(made.local("lost"))
    assert told[-2:] == ["lost is missing in the engine", "building lost"]
    docker_client.images.remove(made.references["lost"], force=True)
