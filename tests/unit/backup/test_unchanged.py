"""Data in which nothing has changed since the last backup is not stored again, and stays for as long as a backup has it."""

from __future__ import annotations

from collections.abc import Callable
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
from tests.support.fake_bucket import MADE, NOW, SITE, planned, snapshots_of
from tests.support.fake_host import FakeHost, Killed
from tests.unit.backup.test_prune_local import TWO, parts

WHOLE = ["store database", "store data", "store configuration"]


@pytest.fixture
def machine(tmp_path: Path) -> FakeHost:
    machine = FakeHost(directory=tmp_path)
    machine.write("before")
    return machine


def take(machine: FakeHost) -> Manifest:
    """Back up, and see what is stored of it restored."""
    machine.actions.clear()
    machine.clock.sleep(60)
    world: Any = machine
    made = backup_take.of_this_moment(machine.site(), world, machine.paths)
    assert machine.snapshots[made.parts["data"].local] == (machine.paths.live / "writes").read_text()
    return made


def stored(machine: FakeHost) -> list[str]:
    return [each for each in machine.actions if each.startswith("store ")]


def test_a_picture_that_is_as_the_last_one_is_not_stored_again(machine: FakeHost) -> None:
    first, second, third = take(machine), take(machine), take(machine)
    assert stored(machine) == ["store database", "store configuration"]
    assert first.parts["data"].local == second.parts["data"].local == third.parts["data"].local
    assert first.repositories == third.repositories
    assert third.stored < first.stored
    assert len({part.local for made in (first, second, third) for part in made.parts.values()}) == 7


def test_whatever_is_written_is_in_the_next_backup(machine: FakeHost) -> None:
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
    ids=["its snapshot", "its manifest", "half its manifest", "its picture", "another's manifest"],
)
def test_without_what_it_is_compared_with_everything_is_stored(
    machine: FakeHost, lose: Callable[[FakeHost, Manifest], object]
) -> None:
    lose(machine, take(machine))
    take(machine)
    assert stored(machine) == WHOLE


def test_where_btrfs_cannot_tell_everything_is_stored(machine: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(picture: Path, earlier: Path) -> bool:
        raise OpsError(f"btrfs send failed on {picture} and {earlier}")

    take(machine)
    monkeypatch.setattr(machine, "differs", fails)
    take(machine)
    assert stored(machine) == WHOLE
    assert any("all is looked at: btrfs send failed" in line for line in machine.progress)


def test_one_picture_is_kept_whatever_cut_off_runs_have_left(tmp_path: Path) -> None:
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


def borrowers(lender: str, *hours: int) -> list[Snapshot]:
    """The snapshots of backups, which have the data of an earlier one."""
    return [
        Snapshot(each.identity, each.original, (*each.tags, prune_local.reuse_tag(lender)))
        if "configuration" in each.tags
        else each
        for hour in hours
        for each in parts(hour, "database", "configuration")
    ]


def test_tidying_the_host_s_repository_keeps_data_that_a_kept_backup_has_borrowed() -> None:
    there = [*parts(4), *parts(3), *borrowers("3-data", 2, 1)]
    gone = prune_local.plan_prune_local(there, TWO, [])
    assert set(gone) == {"4-database", "4-data", "4-configuration", "3-database", "3-configuration"}
    left = [each for each in there if each.identity not in gone]
    assert prune_local.plan_prune_local(left, TWO, []) == ()
    assert set(prune_local.plan_prune_local([*left, *parts(0), *parts(-1)], TWO, [])) == {
        each.identity for each in left
    }


def test_a_backup_whose_borrowed_data_is_gone_is_none() -> None:
    there = [*parts(4), *parts(3), *borrowers("5-data", 2), *parts(1)]
    assert set(prune_local.plan_prune_local(there, TWO, [])) == {
        "2-database",
        "2-configuration",
        *(each.identity for each in parts(4)),
    }


def test_a_prune_keeps_data_that_a_backup_has_borrowed_even_one_that_is_being_taken() -> None:
    lender, borrower = MADE[3], MADE[0]
    borrowed = lender.parts["data"]
    note = prune_local.reuse_tag(borrowed.local)

    def having(made: Manifest) -> list[Snapshot]:
        return [
            Snapshot(each.identity, each.original, (*each.tags, note) if "configuration" in each.tags else each.tags)
            for each in snapshots_of(made)
            if "data" not in each.tags
        ]

    others = [one for each in MADE[1:] for one in snapshots_of(each)]
    for kept in (borrower, fakes.made(NOW)):
        backups = MADE if kept is borrower else MADE[1:]
        plan = planned(backups, [*others, *having(kept)])
        assert lender.identity in plan.removed
        assert borrowed.remote not in plan.snapshots
        assert lender.parts["database"].remote in plan.snapshots
    hidden = [each.identity for each in MADE[2:]]
    assert borrowed.remote not in planned(MADE[:2], [*others, *having(borrower)], hidden).orphans
    later = fakes.made(NOW + timedelta(days=1))
    gone = planned([later, MADE[1]], [*others, *having(borrower)], [*hidden, borrower.identity])
    assert borrowed.remote in gone.orphans
    assert SITE.backup.keep_last == 2
