"""The caches of Gitea's data are in no backup, and a restore empties them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.backup import caches, take
from ops.restore import drill, staging
from ops.restore.staging import staging_of
from ops.world.restic import Stored
from tests.support import fake_host, fakes
from tests.support.fake_bucket import NOW
from tests.support.fake_host import FakeHost

KEPT = ("git/repositories/a/b.git/HEAD", "gitea/attachments/1", "gitea/conf/app.ini", "gitea/queues.txt")


@pytest.fixture
def machine(tmp_path: Path) -> FakeHost:
    machine = FakeHost(directory=tmp_path)
    fill(machine.paths.live)
    return machine


def fill(data: Path) -> None:
    for name in (*KEPT, *(f"{each}/deep/file" for each in caches.CACHES)):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("content")


def files(data: Path) -> set[str]:
    return {str(each.relative_to(data)) for each in data.rglob("*") if each.is_file()}


def test_every_cache_has_a_reason() -> None:
    names = {"gitea/indexers", "gitea/log", "gitea/queues", "gitea/repo-archive", "gitea/sessions", "gitea/tmp"}
    assert names == set(caches.CACHES)
    assert all(caches.CACHES.values())


def test_caches_are_excluded_from_the_stored_data(machine: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Sequence[str]] = {}
    store = fake_host.Restic.store

    def record(self: Any, folders: Sequence[Path], *, tags: Sequence[str], **options: Any) -> Stored:
        given[tags[-1]] = options.get("exclude", ())
        return store(self, folders, tags=tags, **options)

    monkeypatch.setattr(fake_host.Restic, "store", record)
    world: Any = machine
    take.of_this_moment(machine.site(), world, machine.paths)
    assert f"{machine.paths.snapshot}/gitea/queues/*" in given["data"]
    assert len(given["data"]) == len(caches.CACHES)
    assert given["configuration"] == ()


def test_changed_caches_do_not_count_as_changed_data(machine: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def differs(snapshot: Path, earlier: Path, ignored: Sequence[str] = ()) -> bool:
        asked.append(ignored)
        return False

    monkeypatch.setattr(machine, "differs", differs)
    world: Any = machine
    for _ in range(2):
        machine.clock.sleep(60)
        take.of_this_moment(machine.site(), world, machine.paths)
    assert [set(each) for each in asked] == [set(caches.CACHES)]


def test_clearing_keeps_the_folders_and_everything_else(tmp_path: Path) -> None:
    fill(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("content")
    (tmp_path / "gitea/log/link").symlink_to(outside)
    (tmp_path / "gitea/tmp/deep/link").symlink_to(outside)
    (tmp_path / "gitea/queues").chmod(0o700)
    caches.clear(tmp_path)
    assert files(tmp_path) == {*KEPT, "outside/file"}
    assert all((tmp_path / each).is_dir() for each in caches.CACHES)
    assert (tmp_path / "gitea/queues").stat().st_mode & 0o777 == 0o700


def test_clearing_does_not_follow_a_link_in_place_of_a_cache(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt/file").write_text("content")
    (tmp_path / "gitea").mkdir()
    (tmp_path / "gitea/queues").symlink_to(tmp_path / "mnt")
    caches.clear(tmp_path)
    assert (tmp_path / "mnt/file").exists()


class Source:
    """A repository with a backup from before caches were left out."""

    def restore(self, snapshot: str, target: Path, **_: Any) -> None:
        target.mkdir(parents=True, exist_ok=True)
        fill(target)

    def snapshots(self) -> tuple[Any, ...]:
        return fake_host.Restic.snapshots(self)  # type: ignore[arg-type]


@pytest.mark.parametrize("cloned", [True, False], ids=["from the snapshot", "from an older backup"])
def test_a_restore_empties_the_caches(machine: FakeHost, cloned: bool) -> None:
    source: Any = Source()
    source.host = machine
    machine.snapshots["x"] = ""
    world: Any = machine
    snapshot = machine.paths.live if cloned else None
    staging._fetch(world, machine.paths, source, {"data": "x"}, snapshot)
    restored = files(staging_of(machine.paths).data) - {"writes"}
    assert restored == set(KEPT)
    assert (staging_of(machine.paths).data / "gitea/queues").is_dir()


def test_a_drill_empties_the_caches(machine: FakeHost) -> None:
    source: Any = Source()
    source.host = machine
    made = fakes.made(NOW)
    machine.snapshots[made.parts["data"].remote] = ""
    world: Any = machine
    both: Any = type("Both", (), {"remote": source})
    scratch = machine.paths.data / ".drill"
    drill._fetch(world, both, made, scratch)
    assert files(scratch / "gitea") == set(KEPT)
