"""Unchanged data is not stored again: a backup reuses the data of an earlier one, which is kept as long as it is reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import manifest, prune_local
from ops.backup import take as backup_take
from ops.backup.manifest import Manifest
from ops.errors import OpsError
from ops.world.restic import Snapshot
from tests.support import fakes
from tests.support.fake_bucket import MADE, NOW, planned, snapshots_of
from tests.support.fake_host import FakeHost, Killed
from tests.unit.backup.test_prune_local import TWO, parts

WHOLE = ["store database", "store data", "store configuration"]


@pytest.fixture
def machine(tmp_path: Path) -> FakeHost:
    machine = FakeHost(directory=tmp_path)
    machine.write("before")
    return machine


def take(machine: FakeHost) -> Manifest:
    """Take a backup, and check that its data is that of the site."""
    machine.actions.clear()
    machine.clock.sleep(60)
    world: Any = machine
    made = backup_take.of_this_moment(machine.site(), world, machine.paths)
    assert machine.snapshots[made.parts["data"].local] == (machine.paths.live / "writes").read_text()
    return made


def stored(machine: FakeHost) -> list[str]:
    return [each for each in machine.actions if each.startswith("store ")]


def test_unchanged_data_is_not_stored_again(machine: FakeHost) -> None:
    first, second, third = take(machine), take(machine), take(machine)
    assert stored(machine) == ["store database", "store configuration"]
    assert first.parts["data"].local == second.parts["data"].local == third.parts["data"].local
    assert first.repositories == third.repositories
    assert third.stored < first.stored
    assert len({part.local for made in (first, second, third) for part in made.parts.values()}) == 7


def test_changed_data_is_in_the_next_backup(machine: FakeHost) -> None:
    before = take(machine)
    machine.write("after")
    after = take(machine)
    assert stored(machine) == WHOLE
    assert after.parts["data"].local != before.parts["data"].local
    assert after.repositories != before.repositories


@pytest.mark.parametrize(
    "lose",
    [
        lambda machine, made: machine.snapshots.pop(made.parts["data"].local),
        lambda machine, made: machine.paths.newest.unlink(),
        lambda machine, made: machine.paths.newest.write_bytes(b"{"),
        lambda machine, made: machine.remove(machine.paths.snapshot_of(made.identity)),
        lambda machine, made: machine.paths.newest.write_bytes(manifest.to_json(fakes.made(NOW))),
    ],
    ids=["its snapshot", "its manifest", "half its manifest", "its btrfs snapshot", "another's manifest"],
)
def test_all_data_is_stored_if_the_last_backup_cannot_be_compared(
    machine: FakeHost, lose: Callable[[FakeHost, Manifest], object]
) -> None:
    lose(machine, take(machine))
    take(machine)
    assert stored(machine) == WHOLE


def test_all_data_is_stored_if_btrfs_cannot_compare(machine: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(snapshot: Path, earlier: Path, ignored: Sequence[str]) -> bool:
        raise OpsError(f"btrfs send failed on {snapshot} and {earlier}")

    take(machine)
    monkeypatch.setattr(machine, "differs", fails)
    take(machine)
    assert stored(machine) == WHOLE
    assert any("storing all data: btrfs send failed" in line for line in machine.progress)


def test_one_btrfs_snapshot_is_kept_wherever_a_run_is_interrupted(tmp_path: Path) -> None:
    whole = FakeHost(directory=tmp_path / "whole")
    take(whole)
    take(whole)
    for number in range(len(whole.actions)):
        machine = FakeHost(directory=tmp_path / str(number))
        take(machine)
        machine.actions.clear()
        machine.dies_before = number
        with pytest.raises(Killed):
            take(machine)
        machine.dies_before = -1
        made = take(machine)
        assert [each.name for each in machine.paths.snapshot.parent.iterdir()] == [made.identity]


def reusing(snapshot: str, *hours: int) -> list[Snapshot]:
    """The snapshots of backups that reuse the data of an earlier one."""
    return [
        Snapshot(each.identity, each.original, (*each.tags, prune_local.reuse_tag(snapshot)))
        if "configuration" in each.tags
        else each
        for hour in hours
        for each in parts(hour, "database", "configuration")
    ]


def test_a_local_prune_keeps_data_that_a_kept_backup_reuses() -> None:
    snapshots = [*parts(4), *parts(3), *reusing("3-data", 2, 1)]
    gone = prune_local.plan_prune_local(snapshots, TWO, [])
    assert set(gone) == {"4-database", "4-data", "4-configuration", "3-database", "3-configuration"}
    left = [each for each in snapshots if each.identity not in gone]
    assert prune_local.plan_prune_local(left, TWO, []) == ()
    assert set(prune_local.plan_prune_local([*left, *parts(0), *parts(-1)], TWO, [])) == {
        each.identity for each in left
    }


def test_a_backup_whose_reused_data_is_missing_does_not_count() -> None:
    snapshots = [*parts(4), *parts(3), *reusing("5-data", 2), *parts(1)]
    assert set(prune_local.plan_prune_local(snapshots, TWO, [])) == {
        "2-database",
        "2-configuration",
        *(each.identity for each in parts(4)),
    }


REUSED = MADE[3].parts["data"]
OTHERS = [one for each in MADE[1:] for one in snapshots_of(each)]
HIDDEN = [each.identity for each in MADE[2:]]


def remote_reusing(made: Manifest) -> list[Snapshot]:
    """The snapshots in the bucket of a backup that reuses the data of the oldest one."""
    tag = prune_local.reuse_tag(REUSED.local)
    return [
        replace(each, tags=(*each.tags, tag)) if "configuration" in each.tags else each
        for each in snapshots_of(made)
        if "data" not in each.tags
    ]


@pytest.mark.parametrize(
    ("backups", "reusing_backup"), [(MADE, MADE[0]), (MADE[1:], fakes.made(NOW))], ids=["kept", "under way"]
)
def test_a_prune_keeps_data_that_another_backup_reuses(backups: list[Manifest], reusing_backup: Manifest) -> None:
    plan = planned(backups, [*OTHERS, *remote_reusing(reusing_backup)])
    assert MADE[3].identity in plan.removed
    assert REUSED.remote not in plan.snapshots
    assert MADE[3].parts["database"].remote in plan.snapshots


def test_a_prune_keeps_reused_data_of_a_hidden_backup_until_the_last_backup_with_it_is_removed() -> None:
    snapshots = [*OTHERS, *remote_reusing(MADE[0])]
    assert REUSED.remote not in planned(MADE[:2], snapshots, HIDDEN).orphans
    later = fakes.made(NOW + timedelta(days=1))
    assert REUSED.remote in planned([later, MADE[1]], snapshots, [*HIDDEN, MADE[0].identity]).orphans
