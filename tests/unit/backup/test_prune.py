"""A prune removes what the policy does not keep and nothing else. Interruptions: tests/integration/test_interruptions.py."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.backup import catalogue, manifest, operator_access, prune, records
from ops.backup.manifest import Backup
from ops.backup.prune import PrunePlan
from ops.config.workspace import Workspace
from ops.images import ops_image
from ops.wal import base_backups, segments
from ops.wal.segments import BaseBackup
from ops.world.restic import Snapshot
from tests.support import fakes
from tests.support.fake_bucket import MADE, NOW, SITE, WHOLE, planned, snapshots_of


def test_a_backup_that_the_policy_does_not_keep_is_removed_with_its_snapshots() -> None:
    plan = planned(MADE, [one for each in MADE for one in snapshots_of(each)])
    assert plan.removed == (MADE[2].identity, MADE[3].identity)
    assert set(plan.snapshots) == {part.remote for each in MADE[2:] for part in each.parts.values()}
    assert plan.orphans == ()
    assert [line.split()[1] for line in plan.lines] == ["keep", "keep", "REMOVE", "REMOVE"]


def test_snapshots_of_a_backup_under_way_are_kept_and_those_of_an_unfinished_one_are_removed() -> None:
    taking, cut = fakes.made(NOW - timedelta(minutes=5)), fakes.made(NOW - timedelta(hours=25))
    plan = planned(MADE[:1], [*snapshots_of(taking), *snapshots_of(cut), *snapshots_of(MADE[0])])
    assert set(plan.orphans) == {part.remote for part in cut.parts.values()}
    assert plan.lines[-1] == "and 3 snapshots of backups that were not finished or not completely removed"


def test_old_snapshots_of_backups_that_waited_for_the_bucket_are_kept() -> None:
    # The bucket was unreachable for two days: backups of that time are uploaded oldest first, none has a manifest yet.
    before = fakes.made(NOW - timedelta(hours=60))
    pending = [one for hours in (40, 30) for one in snapshots_of(fakes.made(NOW - timedelta(hours=hours)))]
    assert planned([before], [*snapshots_of(before), *pending]).orphans == ()
    assert planned([fakes.made(NOW - timedelta(hours=40))], pending).orphans == ()
    assert len(planned([MADE[0]], pending).orphans) == 6


def test_snapshots_with_a_hidden_manifest_are_removed_at_once() -> None:
    plan = planned(MADE[:1], snapshots_of(MADE[1]), hidden=[MADE[1].identity])
    assert set(plan.orphans) == {part.remote for part in MADE[1].parts.values()}


def test_foreign_snapshots_and_those_of_a_broken_backup_are_kept() -> None:
    foreign = [Snapshot("one", "one", ("first-pass",)), Snapshot("two", "two", ("data",)), Snapshot("three", "three")]
    old = fakes.made(NOW - timedelta(days=300))
    broken = Backup(old.identity, None, "its manifest is truncated")
    plan = prune.plan_prune(SITE, [broken], [*foreign, *snapshots_of(old)], [], NOW)
    assert (plan.removed, plan.snapshots, plan.orphans) == ((), (), ())


def base(days: int) -> BaseBackup:
    """A base backup of so many days ago, with one WAL segment a day."""
    when, start = NOW - timedelta(days=days), (100 - days) * segments.SEGMENT_BYTES
    return BaseBackup(manifest.identity_of(when), "7345", 1, start, start + 9, when, "", f"base-{days}", 1, "18.6")


def segment(days: int) -> str:
    return segments.key_of("7345", segments.Segment(100 - days, 1).name(segments.SEGMENT_BYTES))


def test_wal_that_no_restore_to_the_last_two_weeks_needs_is_removed() -> None:
    records = [base(days) for days in (17, 16, 15, 3, 0)]
    stored = [Snapshot(each.remote, "", (base_backups.TAG,)) for each in records]
    plan = prune.with_wal(PrunePlan((), (), ()), records, [segment(days) for days in range(20)], stored, NOW)
    assert [each.identity for each in plan.wal.bases] == [records[0].identity, records[1].identity]
    assert set(plan.wal.keys) == {segment(days) for days in (19, 18, 17, 16)}
    assert plan.bases == ("base-17", "base-16")
    assert plan.deletes_anything
    assert plan.lines[-1].startswith("and 2 base backups of the database with 4 WAL files")


def test_a_base_backup_without_a_record_is_removed_unless_it_is_the_newest() -> None:
    stored = [Snapshot(each, "", (base_backups.TAG,)) for each in ("cut-off", "base-0", "being-taken")]
    assert prune.with_wal(PrunePlan((), (), ()), [base(0)], [], stored, NOW).bases == ("cut-off",)
    assert not prune.with_wal(PrunePlan((), (), ()), [base(0)], [], stored[1:], NOW).deletes_anything


def test_after_a_prune_only_kept_backups_are_left() -> None:
    kept = sorted(part.remote for each in MADE[:2] for part in each.parts.values())
    assert WHOLE.state() == (sorted(each.identity for each in MADE[:2]), kept, kept)


def test_a_prune_records_itself_in_the_bucket_and_a_dry_run_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world: Any = fakes.FakeWorld()
    repository: Any = SimpleNamespace(snapshots_or_none=lambda: (), snapshots=lambda: (), prune=lambda: None)
    monkeypatch.setattr(ops_image, "ensure", lambda *_: SimpleNamespace(reference="ops"))
    monkeypatch.setattr(operator_access, "open_repository", lambda *_, **__: nullcontext(repository))
    monkeypatch.setattr(operator_access, "hidden", lambda *_: frozenset())

    def run(*, dry_run: bool) -> None:
        workspace = Workspace(tmp_path, tmp_path, tmp_path)
        prune.prune(SITE, world, workspace=workspace, confirm=lambda *_: None, dry_run=dry_run)

    run(dry_run=True)
    assert catalogue.last_prune(SITE, world) is None
    run(dry_run=False)
    assert catalogue.last_prune(SITE, world) == world.clock.now()
    (record,) = world.aws.stored.values()
    # A wrong clock does not silence the check for years.
    world.aws.stored[records.key_of(records.PRUNES, world.clock.now() + timedelta(days=400))] = b""
    assert catalogue.last_prune(SITE, world) == world.clock.now()
    assert json.loads(record) == {"schema": 1, "began": "2026-11-23T12:00:00+00:00", "removed": 0}
