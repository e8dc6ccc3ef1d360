"""Fixtures with real adapters: one run of the test environment per test process, removed at its end."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import docker
import pytest

from ground import acme, aws, environment, image_set, mail, registry, run_registry
from ground.acme import Acme
from ground.container import RunContext
from ground.image_set import OPS_BASE, ImageSet
from ground.mail import Mailbox
from ops.images import ops_image as images_ops_image
from ops.images.ops_image import OpsImage
from ops.world import World, evidence
from tests.support import fakes
from tests.support.compose_stack import Stack, make_operator, whole_stack
from tests.support.gitea_contract import Bench, bench_on

# The fixtures: a conftest imports all of them.
__all__ = [
    "aws_endpoint",
    "bench",
    "built",
    "docker_client",
    "gitea_image",
    "host_image",
    "images_by_variable",
    "in_memory",
    "issuer",
    "mailbox",
    "mirror",
    "operator",
    "ops_image",
    "postgres_image",
    "run_context",
    "run_id",
    "stack",
]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@pytest.fixture(scope="session")
def built() -> ImageSet:
    """The image set, built by the first test process."""
    run_registry.CACHE.mkdir(parents=True, exist_ok=True)
    with (run_registry.CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        client, made = environment.prepare(_tell)
        evidence.note(image_set=made.name, images=image_set.digests(client, made))
    return made


@pytest.fixture(scope="session")
def docker_client(built: ImageSet) -> docker.DockerClient:
    """A client of the engine, after the images are built."""
    assert built.references
    return docker.from_env()


@pytest.fixture(scope="session")
def run_context(docker_client: docker.DockerClient) -> Iterator[RunContext]:
    """A run of the test environment for this test process."""
    run_context, _, lock = run_registry.new_run(docker_client, _tell)
    yield run_context
    run_registry.remove(docker_client, run_context.run)
    lock.close()


@pytest.fixture(scope="session")
def mirror(run_context: RunContext, built: ImageSet) -> str:
    """The URL of a registry instead of Docker Hub, with one image under two names and one of the stack."""
    door, sink = image_set.pinned()["DOOR_IMAGE"], built.local("mail")
    references = {door: built.local(door), "somebody/mail:1.0": sink, "mail:1.0": sink}
    return registry.start(run_context, built.local("registry"), references)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory if the machine has /dev/shm, for the fake hosts."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def run_id(run_context: RunContext) -> str:
    """The run's name, the value of the label gitea-suite.run on everything that a test starts."""
    return run_context.run


@pytest.fixture(scope="module")
def bench(docker_client: docker.DockerClient, run_id: str) -> Iterator[Bench]:
    """A network for one module."""
    with bench_on(docker_client, run_id) as bench:
        yield bench


@pytest.fixture(scope="session", name="images")
def images_by_variable(built: ImageSet) -> Mapping[str, str]:
    """Local images by the variables of compose.yaml."""
    return {variable: built.local(image) for variable, image in image_set.pinned().items()}


@pytest.fixture(scope="session")
def gitea_image(built: ImageSet) -> Callable[[str], str]:
    """The local image for a Gitea tag."""
    return lambda tag: built.local(f"gitea/gitea:{tag}")


@pytest.fixture(scope="session")
def postgres_image(built: ImageSet) -> str:
    """The local PostgreSQL image."""
    return built.local(image_set.pinned()["POSTGRES_IMAGE"])


@pytest.fixture(scope="session")
def host_image(built: ImageSet) -> str:
    """The local image of the host."""
    return built.local("host")


@pytest.fixture(scope="session")
def ops_image(built: ImageSet) -> Iterator[OpsImage]:
    """The ops image, built by the first test process."""
    os.environ["OPS_BASE_IMAGE"] = built.local(OPS_BASE)
    with (run_registry.CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = images_ops_image.ensure(run_registry.REPOSITORY, run_registry.CACHE, World(fakes.site(), tell=_tell))
    evidence.note(images={made.reference: made.identity})
    yield made
    del os.environ["OPS_BASE_IMAGE"]


@pytest.fixture(scope="session")
def aws_endpoint(run_context: RunContext, built: ImageSet) -> str:
    """The endpoint of a running LocalStack with the hosted zone."""
    cloud = aws.start(run_context, built)
    aws.seed(cloud.endpoint_url, "gitea.test")
    return cloud.endpoint_url


@pytest.fixture(scope="session")
def issuer(run_context: RunContext, built: ImageSet) -> Acme:
    """A running Pebble whose DNS resolves only git.gitea.test."""
    started = acme.start(run_context, built.local("pebble"))
    acme.add_record(started, "git.gitea.test", run_context.address("host"))
    return started


@pytest.fixture(scope="session")
def mailbox(run_context: RunContext, built: ImageSet) -> Mailbox:
    """A running mail sink that requires TLS and credentials."""
    return mail.start(run_context, built.local("mail"))


@pytest.fixture(scope="module")
def stack(images: Mapping[str, str], run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack, with a certificate."""
    with whole_stack(images, run_id, tmp_path_factory.mktemp("stack")) as whole:
        yield whole


@pytest.fixture(scope="module")
def operator(stack: Stack) -> dict[str, str]:
    """The login headers of an administrator."""
    return make_operator(stack)
