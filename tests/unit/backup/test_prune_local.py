"""The host prunes its own repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ops.backup import prune_local, take
from ops.backup.manifest import PARTS, identity_of
from ops.config.paths import HostPaths
from ops.config.schema import Backup as Policy
from ops.errors import OpsError
from ops.step_timer import StepTimer
from ops.wal import base_backups
from ops.world.restic import Snapshot
from tests.support import fakes

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TWO = Policy(bucket="some", keep_last=2, keep_daily=0, keep_weekly=0, keep_monthly=0)


def parts(hours: int, *names: str) -> list[Snapshot]:
    identity = identity_of(NOW - timedelta(hours=hours))
    return [Snapshot(f"{hours}-{name}", f"{hours}-{name}", (identity, name)) for name in names or PARTS]


def test_backups_that_the_policy_does_not_keep_and_unfinished_ones_are_removed() -> None:
    snapshots = [*parts(5, "data"), *parts(4), *parts(3), *parts(2), *parts(1)]
    assert set(prune_local.plan_prune_local(snapshots, TWO, [])) == {
        "5-data",
        *(f"{hours}-{name}" for hours in (4, 3) for name in PARTS),
    }


def test_a_backup_under_way_and_the_newest_verified_one_are_kept() -> None:
    snapshots = [*parts(9), *parts(3), *parts(2), *parts(1), *parts(0, "database", "data")]
    assert set(prune_local.plan_prune_local(snapshots, TWO, [identity_of(NOW - timedelta(hours=9))])) == {
        f"3-{name}" for name in PARTS
    }


def test_the_newest_first_pass_two_base_backups_and_foreign_snapshots_are_kept() -> None:
    snapshots = [Snapshot(f"pass-{number}", "", ("first-pass",)) for number in range(3)]
    snapshots += [Snapshot(f"base-{number}", "", (base_backups.TAG,)) for number in range(4)]
    foreign = [Snapshot("a", "", ("data",)), Snapshot("b", "", (identity_of(NOW),)), Snapshot("c", "")]
    assert prune_local.plan_prune_local([*snapshots, *foreign], TWO, []) == ("pass-0", "pass-1", "base-0", "base-1")


@dataclass
class Repository:
    """The host's own repository."""

    stored: list[Snapshot]
    broken: bool = False
    pruned: int = 0

    def snapshots(self) -> tuple[Snapshot, ...]:
        if self.broken:
            raise OpsError("the disk is full")
        return tuple(self.stored)

    def forget(self, snapshots: Sequence[str]) -> None:
        self.stored = [each for each in self.stored if each.identity not in snapshots]

    def prune(self) -> None:
        self.pruned += 1


def test_a_backup_prunes_the_host_s_repository_once_a_day_and_survives_a_failure_of_that(tmp_path: Path) -> None:
    local = Repository([*parts(3), *parts(2), *parts(1)], broken=True)
    world: Any = fakes.FakeWorld()
    world.restic = lambda *_, **__: local
    site, paths = fakes.site(backup={"bucket": "some", "keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}), HostPaths(local=tmp_path / "restic")  # fmt: skip
    assert take._prune_daily(site, world, paths, NOW, StepTimer(world)) == (
        "the backup is whole, but this host's repository was not pruned: prune: the disk is full",
    )
    local.broken = False
    assert take._prune_daily(site, world, paths, NOW, StepTimer(world)) == ()
    assert local.stored == parts(1)
    assert take._prune_daily(site, world, paths, NOW, StepTimer(world)) == ()
    assert local.pruned == 1


@given(st.sets(st.integers(0, 90), max_size=9), st.sets(st.integers(0, 90), max_size=3))
def test_backups_are_removed_whole_or_not_at_all(whole: set[int], verified: set[int]) -> None:
    snapshots = [one for hours in whole for one in parts(hours)]
    gone = prune_local.plan_prune_local(snapshots, TWO, [identity_of(NOW - timedelta(hours=each)) for each in verified])
    backups = {each.partition("-")[0] for each in gone}
    assert set(gone) == {f"{hours}-{name}" for hours in backups for name in PARTS}
    assert len(whole) - len(backups) >= min(len(whole), 2)


def test_the_local_prune_is_due_once_a_day(tmp_path: Path) -> None:
    note = tmp_path / "tidied"
    assert prune_local.is_due(note, NOW)
    prune_local.done(note, NOW)
    assert not prune_local.is_due(note, NOW + timedelta(hours=11, minutes=59))
    assert prune_local.is_due(note, NOW + timedelta(hours=12))


def test_a_snapshot_is_part_of_a_backup_with_its_name_and_exactly_one_part_as_tags() -> None:
    name = identity_of(NOW)
    assert prune_local.backup_of(Snapshot("a", "", ("data", "extra", name))) == name
    assert prune_local.backup_of(Snapshot("a", "", (name,))) == ""
    assert prune_local.backup_of(Snapshot("a", "", (name, "data", "database"))) == ""
    assert prune_local.backup_of(Snapshot("a", "", ("data",))) == ""


def test_a_reused_snapshot_is_named_in_a_tag_that_running_sites_have() -> None:
    assert prune_local.reuse_tag("0af3") == "data-is-0af3"
    assert prune_local.reused_data(Snapshot("a", "", ("database", "data-is-0af3"))) == "0af3"
    assert prune_local.reused_data(Snapshot("a", "", ("database",))) == ""


def test_reused_data_makes_a_backup_whole_only_if_it_is_available() -> None:
    def reusing(hours: int) -> list[Snapshot]:
        database, configuration = parts(hours, "database", "configuration")
        return [replace(database, tags=(*database.tags, prune_local.reuse_tag("9-data"))), configuration]

    newer = [*reusing(2), *reusing(1)]
    # Whole backups, so the older one with the data is deleted up to its data.
    assert set(prune_local.plan_prune_local([*parts(9), *newer], TWO, [])) == {"9-database", "9-configuration"}
    # Without the data neither is whole. The oldest one is the newest whole backup, and is kept.
    assert prune_local.plan_prune_local([*parts(8), *newer], TWO, []) == ()
    # Data of a backup that is kept itself.
    assert prune_local.shared_data(newer, [identity_of(NOW - timedelta(hours=1))]) == {"9-data"}
    assert prune_local.shared_data(newer, [identity_of(NOW - timedelta(hours=each)) for each in (1, 2)]) == frozenset()
