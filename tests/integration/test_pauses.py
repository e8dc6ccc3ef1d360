"""A paused container is resumed, also when the engine cannot: it hangs, or it refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import docker
import pytest
from docker.errors import APIError
from docker.models.containers import Container
from requests.exceptions import ReadTimeout

from ground.container import RUN_LABEL, RunContext
from ground.image_set import ImageSet
from ops.errors import OpsError
from ops.images.ops_image import OpsImage
from ops.world.containers import Containers

_CYCLES = 300
_THAW = r"""
for file in $(find /host-cgroups \( -path "*[/-]$1*/freezer.state" -o -path "*[/-]$1*/cgroup.freeze" \)); do
    case $file in */freezer.state) echo THAWED >"$file" ;; *) echo 0 >"$file" ;; esac
done
"""


@pytest.fixture
def container(run_context: RunContext, built: ImageSet, docker_client: docker.DockerClient) -> Iterator[Container]:
    """A running container."""
    labels = {RUN_LABEL: run_context.run}
    made = docker_client.containers.run(built.local("mail"), ["sleep", "600"], labels=labels, detach=True, init=True)
    yield made
    made.remove(force=True, v=True)


@pytest.mark.parametrize("is_killed", [False, True], ids=["ops waits", "ops was killed"])
def test_a_container_that_the_engine_cannot_resume_is_resumed_past_it(
    container: Container, ops_image: OpsImage, is_killed: bool
) -> None:
    name, containers = str(container.name), Containers()
    seconds = 2.0 if is_killed else 300.0
    hangs = _paused_for_ever(name)
    began = time.monotonic()
    watchdog = containers.start_watchdog(name, watchdog_image=ops_image.reference, seconds=seconds)
    if is_killed:
        while _is_running(watchdog):
            assert time.monotonic() - began < 30
            time.sleep(0.1)
    elif hangs:
        with pytest.raises(OpsError, match="it was resumed past the engine"):
            containers.thaw(name, watchdog)
    else:
        containers.freeze(name)
        assert containers.thaw(name, watchdog) is True
        containers.stop_watchdog(watchdog)
    _assert_well(container)


def test_a_container_that_the_engine_refuses_to_resume_is_resumed_past_it(
    container: Container, ops_image: OpsImage, docker_client: docker.DockerClient
) -> None:
    name, containers = str(container.name), Containers()
    watchdog = containers.start_watchdog(name, watchdog_image=ops_image.reference, seconds=300)
    containers.freeze(name)
    # The runtime does not resume what is not frozen.
    docker_client.containers.run(
        ops_image.reference,
        ["-c", _THAW, "thaw", str(container.id)],
        entrypoint=["sh"],
        remove=True,
        volumes={"/sys/fs/cgroup": {"bind": "/host-cgroups", "mode": "rw"}},
    )
    with pytest.raises(OpsError, match=r"refuses.*it was resumed past the engine"):
        containers.thaw(name, watchdog)
    _assert_well(container)


def test_a_container_that_is_paused_already_is_not_paused_twice(container: Container) -> None:
    container.pause()
    with pytest.raises(OpsError, match="is already paused"):
        Containers().freeze(str(container.name))
    container.unpause()


def _assert_well(container: Container) -> None:
    container.reload()
    assert container.status == "running"
    assert container.exec_run(["true"]).exit_code == 0
    # The engine pauses and resumes it as before.
    container.pause()
    container.unpause()


def _paused_for_ever(name: str) -> bool:
    """Pause a container at the moment in which a command begins in it; returns whether the engine then hangs or refuses."""
    over, client = threading.Event(), docker.from_env(timeout=3)
    commands = [threading.Thread(target=_run_commands, args=(name, over), daemon=True) for _ in range(3)]
    for each in commands:
        each.start()
    try:
        # It may only be slow.
        with suppress(ReadTimeout):
            for _ in range(_CYCLES):
                with suppress(APIError):
                    # The runtime may fail to freeze a container, or to thaw it, while it starts a process.
                    client.api.pause(name)
                    client.api.unpause(name)
    finally:
        over.set()
    return _hangs(name) or bool(client.api.containers(filters={"name": name, "status": "paused"}))


def _hangs(name: str) -> bool:
    """Resume a container, and return whether the engine does not answer for longer than a busy machine takes."""
    # The engine learns late, from events, what the runtime did.
    time.sleep(5)
    try:
        docker.from_env(timeout=20).api.unpause(name)
    except ReadTimeout:
        return True
    except APIError as error:
        print(f"it is resumed already: {error.explanation}")
    time.sleep(5)
    return False


def _run_commands(name: str, over: threading.Event) -> None:
    client = docker.from_env(timeout=60)
    while not over.is_set():
        # Not in a paused container.
        with suppress(APIError, ReadTimeout):
            client.api.exec_start(client.api.exec_create(name, ["true"])["Id"], detach=True)


def _is_running(identity: str) -> bool:
    return any(each["Id"] == identity for each in docker.from_env().api.containers())
