"""Locks of a repository, with the real restic: who holds one, and that reading needs none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import unlock
from ops.errors import Locked
from ops.images.ops_image import OpsImage
from ops.world import restic_locks
from ops.world.container_processes import ContainerProcesses
from ops.world.process import Processes
from ops.world.restic import Restic
from tests.support import fakes
from tests.support.gitea_contract import Bench, eventually
from tests.support.restic_formats import empty_repository

PASSWORD = "of-the-locked-repository"


@pytest.fixture
def locked_repository(ops_image: OpsImage, tmp_path: Path) -> tuple[Restic, list[str], datetime]:
    """A repository with the exclusive lock of a killed run, the lines that its adapter reports, and the lock's time."""
    made, when = empty_repository(PASSWORD), datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=3)
    name, content = made.lock(when, "host-a", exclusive=True)
    folder = tmp_path / "repository"
    for each in ("data", "index", "keys", "locks", "snapshots"):
        (folder / each).mkdir(parents=True)
    for path, written in {**made.files, name: content}.items():
        (folder / path).write_bytes(written)
    (tmp_path / "password").write_text(PASSWORD)
    told: list[str] = []
    processes = ContainerProcesses(ops_image.reference, "host-b", (tmp_path,))
    return Restic(processes, str(folder), tmp_path / "password", tmp_path / "cache", tell=told.append), told, when


def test_a_locked_repository_is_read_and_its_holder_is_named(
    locked_repository: tuple[Restic, list[str], datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, told, when = locked_repository
    assert repository.exists()
    assert repository.snapshots() == ()
    assert told == []
    (holder,) = repository.locks().values()
    assert (holder.host, holder.pid, holder.refreshed, holder.exclusive) == ("host-a", 4242, when, True)
    monkeypatch.setattr(restic_locks, "PATIENCE_SECONDS", 6.0)
    with pytest.raises(Locked) as locked:
        repository.prune()
    words = f"is locked by process 4242 on host-a, since {when:%Y-%m-%d %H:%M:%S}, exclusively"
    assert words in locked.value.message
    assert [line for line in told if words in line and "waiting until" in line] == told[:1]
    assert told


@pytest.mark.parametrize(("program", "is_restic"), [("restic", True), ("sleep", False)])
def test_a_running_restic_is_seen_in_its_container(
    bench: Bench, postgres_image: str, program: str, is_restic: bool
) -> None:
    script = f"(exec -a {program} sleep 600) & wait"
    container = bench.start(f"with-{program}", postgres_image, entrypoint=["bash", "-c", script], init=True)
    world: Any = fakes.FakeWorld()
    world.processes = Processes()
    eventually(lambda: f"{program} 600" in str(container.top(ps_args="-eo pid,args")))
    assert unlock.runs_restic(world, str(container.id)) is is_restic
    container.remove(force=True)
    assert unlock.runs_restic(world, str(container.id)) is False
