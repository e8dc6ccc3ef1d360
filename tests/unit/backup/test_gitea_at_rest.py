"""A backup of a Gitea that does not run, or that the operator paused: it is left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.backup import contents, manifest
from ops.errors import OpsError, RolledBack
from ops.world.containers import Containers, Ran, Service
from tests.support.fake_host import FakeHost


class RealisticHost(FakeHost):
    """A host whose engine pauses and resumes Gitea, and refuses commands in a paused or stopped container."""

    watched: int = 0
    # Someone starts or resumes Gitea while the snapshots are taken.
    interferes: bool = False

    def freeze(self, container: str) -> None:
        if self.stack["gitea"].state != "running":
            raise OpsError("Docker refuses: the container is already paused")
        super().freeze(container)
        self.stack["gitea"].state = "paused"

    def thaw(self, container: str, watchdog: str) -> bool:
        self.stack["gitea"].state = "running"
        return True

    def name(self, project: str, service: str) -> str:
        # The engine lists a paused container among the running ones.
        return service if self.stack[service].state == "paused" else super().name(project, service)

    def execute(self, project: str, service: str, argv: Sequence[str], **options: Any) -> Ran:
        if self.stack[service].state == "paused":
            raise OpsError("Docker refuses: the container is paused, unpause the container before exec")
        return super().execute(project, service, argv, **options)

    def start_watchdog(self, container: str, **options: Any) -> str:
        self.watched += 1
        return super().start_watchdog(container, **options)

    def snapshot(self, folder: Path, snapshot: Path) -> None:
        super().snapshot(folder, snapshot)
        if self.interferes:
            self.stack["gitea"].state = "running"


@pytest.fixture
def machine(tmp_path: Path, without_base_backups: None) -> RealisticHost:
    return RealisticHost(directory=tmp_path)


@pytest.mark.parametrize("state", ["paused", "exited", "created", "dead", "restarting"])
def test_a_gitea_that_does_not_write_is_backed_up_and_left_as_it_is(machine: RealisticHost, state: str) -> None:
    machine.stack["gitea"].state = state
    report = machine.back_up()
    assert machine.stack["gitea"].state == state
    assert (machine.watched, "freeze" in machine.actions) == (0, False)
    assert report.exit_code == 0
    assert f"Gitea is {state} and was left so, nothing was frozen" in report.summary
    assert report.facts["gitea"] == state
    made = manifest.from_json(machine.bucket[f"manifests/{report.facts['identity']}.json"])
    assert (made.versions["gitea"], made.paused) == ("28.0.1", 0.0)
    assert made.repositories


def test_a_running_gitea_is_frozen_and_resumed(machine: RealisticHost) -> None:
    report = machine.back_up()
    assert machine.stack["gitea"].state == "running"
    assert (machine.watched, "freeze" in machine.actions) == (1, True)
    assert "gitea" not in report.facts
    assert "writes were paused for" in report.summary


@pytest.mark.parametrize("state", ["paused", "exited"])
def test_no_backup_is_made_when_gitea_is_started_during_the_snapshots(machine: RealisticHost, state: str) -> None:
    machine.stack["gitea"].state = state
    machine.interferes = True
    with pytest.raises(RolledBack, match=f"Gitea was {state} and is running since the snapshots began") as raised:
        machine.back_up()
    assert raised.value.hint == "run ops backup take again"
    assert not [each for each in machine.bucket if each.startswith("manifests/")]


def test_a_site_without_a_container_of_gitea_is_an_error(machine: RealisticHost) -> None:
    del machine.stack["gitea"]
    world: Any = machine
    with pytest.raises(Exception, match="gitea has no container"):
        contents.gitea_service(world, machine.paths)


def test_the_image_of_a_stopped_service_is_in_the_manifest() -> None:
    class Found:
        def __init__(self, service: str, image: str, *, running: bool) -> None:
            self.labels = {"com.docker.compose.service": service}
            self.attrs: dict[str, Any] = {"Config": {"Image": image}, "State": {"Running": running}}
            self.image = None

    class Engine:
        @property
        def containers(self) -> Engine:
            return self

        def list(self, **options: Any) -> list[Found]:
            found = [
                Found("nginx", "nginx:2@sha256:2", running=True),
                Found("nginx", "nginx:1@sha256:1", running=False),
                Found("gitea", "gitea:1@sha256:3", running=False),
            ]
            return [each for each in found if options.get("all") or each.attrs["State"]["Running"]]

    containers = Containers.__new__(Containers)
    containers._docker = Engine()
    assert containers.pinned("gitea-suite") == {"nginx": "nginx:2@sha256:2", "gitea": "gitea:1@sha256:3"}


def test_the_version_of_a_stopped_gitea_is_that_of_its_tag(machine: RealisticHost) -> None:
    world: Any = machine
    stopped = Service("gitea", "gitea/gitea:28.0.1@sha256:0", "exited", "", 0)
    assert contents.versions(world, machine.paths, stopped)["gitea"] == "28.0.1"
