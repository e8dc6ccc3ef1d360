"""Which backups are shown, and when 3-2-1 holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import manifest, records, status
from ops.backup.manifest import Backup
from ops.backup.records import Drill, Verification
from ops.backup.status import BackupInventory
from ops.config.paths import HostPaths
from ops.world.restic import Snapshot
from tests.support import fakes

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NEWEST = fakes.made(NOW - timedelta(minutes=10))
OLDER = fakes.made(NOW - timedelta(days=30))
ALL_WELL = BackupInventory(
    (Backup(OLDER.identity, OLDER), Backup(NEWEST.identity, NEWEST)),
    {part.local for part in NEWEST.parts.values()},
    True,
    tuple(Verification(NOW - timedelta(days=day), OLDER.identity, day + 1) for day in range(records.SHARES)),
    (Drill(NOW - timedelta(days=1), OLDER.identity, 3600.0, 1800.0),),
)
SITE = fakes.site()


def red(facts: BackupInventory, now: datetime = NOW) -> dict[str, str]:
    return {each.name: each.seen for each in status.check(SITE, facts, now) if not each.healthy}


def test_a_site_with_three_copies_on_two_media_one_elsewhere_all_proven_is_well() -> None:
    assert red(ALL_WELL) == {}
    assert {each.name for each in status.check(SITE, ALL_WELL, NOW)} == {
        "copies", "media", "elsewhere", "age", "verified", "drilled", "RTO", "RPO",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "name", "words"),
    [
        (replace(ALL_WELL, backups=()), "copies", "no whole backup"),
        (replace(ALL_WELL, local=set()), "copies", "database and data and configuration"),
        (replace(ALL_WELL, local=set(list(ALL_WELL.local)[:2])), "copies", "missing on this host"),
        (replace(ALL_WELL, two_disks=False), "media", "on one disk"),
        (replace(ALL_WELL, backups=ALL_WELL.backups[:1], local={p.local for p in OLDER.parts.values()}), "age", "30"),
        (replace(ALL_WELL, verifications=()), "verified", "no backup was ever verified"),
        (replace(ALL_WELL, drills=()), "drilled", "no backup was ever restored"),
        (replace(ALL_WELL, drills=(Drill(NOW, "one", 3606.0, 1.0),)), "RTO", "60.1 min, of 60"),
        (replace(ALL_WELL, drills=(Drill(NOW, "one", 1.0, 1806.0),)), "RPO", "30.1 min, of 30"),
        (
            replace(ALL_WELL, backups=(*ALL_WELL.backups, Backup("20261123T115900Z", None, "data missing"))),
            "backup 20261123T115900Z",
            "data missing",
        ),
    ],
)
def test_each_thing_that_is_missing_is_red_with_a_remedy(facts: BackupInventory, name: str, words: str) -> None:
    assert words in red(facts)[name]
    assert len(red(facts)) == 1
    assert all(each.remedy for each in status.check(SITE, facts, NOW) if not each.healthy)


@pytest.mark.parametrize(
    ("said", "well", "words"),
    [
        ("COMPLETED", True, f"by S3 itself copied to eu-west-1, as it says of backup {OLDER.identity}"),
        ("FAILED", False, f"S3 has not copied backup {OLDER.identity} to eu-west-1: FAILED"),
        ("PENDING", False, "PENDING"),
        ("", False, "S3 knows of no copy"),
        (None, True, "the first hour of backups is not over yet"),
    ],
)
def test_the_replica_is_what_s3_says_of_a_backup_that_is_an_hour_old(said: str | None, well: bool, words: str) -> None:
    document = {"bucket": "example-org-gitea-backup", "replica_region": "eu-west-1"}
    facts = replace(ALL_WELL, replicated=None if said is None else (OLDER.identity, said))
    judged = status.check(fakes.site(backup=document), facts, NOW)
    (probe,) = (each for each in judged if each.name == "elsewhere")
    assert probe.healthy is well
    assert words in probe.seen
    assert probe.healthy or "ops deploy" in probe.remedy


@pytest.mark.parametrize(("minutes", "asked"), [(59, False), (60, True), (90, True)])
def test_s3_is_asked_of_the_newest_backup_that_it_had_an_hour_for(minutes: int, asked: bool) -> None:
    old = fakes.made(NOW - timedelta(minutes=minutes))
    found = status.settled([old, fakes.made(NOW)], NOW)
    assert found == (old if asked else None)


@pytest.mark.parametrize(("minutes", "well"), [(-6, False), (-4, True), (0, True), (30, True), (30.1, False)])
def test_the_newest_backup_is_neither_too_old_nor_from_the_future(minutes: float, well: bool) -> None:
    assert status.check_age(NOW - timedelta(minutes=minutes), 30, NOW).healthy is well


class House(fakes.FakeWorld):
    """A world with two repositories of snapshots, or with one of them gone."""

    gone = ""

    def restic(self, repository: str, **_: Any) -> House.Repository:
        kind = "remote" if repository.startswith("s3:") else "local"
        return self.Repository(kind, there=kind != self.gone)

    class Repository:
        def __init__(self, kind: str, *, there: bool) -> None:
            self.kind, self.there = kind, there

        def snapshots_or_none(self) -> tuple[Snapshot, ...] | None:
            if not self.there:
                return None
            known = (NEWEST, fakes.made(NOW - timedelta(minutes=40)))
            ids = {"remote": [part.remote for each in known for part in each.parts.values()],
                   "local": [part.local for part in NEWEST.parts.values()]}  # fmt: skip
            return tuple(Snapshot(each, each) for each in ids[self.kind])


@pytest.fixture
def house() -> House:
    lost = fakes.made(NOW - timedelta(minutes=25))
    cut = fakes.made(NOW - timedelta(minutes=40))
    stored = {manifest.key_of(each.identity): manifest.to_json(each) for each in (NEWEST, lost)}
    stored[manifest.key_of(cut.identity)] = manifest.to_json(cut)[:99]
    verified = Verification(NOW, NEWEST.identity, 1)
    stored[records.key_of(records.VERIFICATIONS, NOW)] = records.to_json(verified)
    return House(aws=fakes.FakeAws(stored=stored))


def test_a_manifest_that_is_cut_off_or_whose_parts_are_missing_is_listed_as_broken_and_never_as_a_backup(
    house: House,
) -> None:
    report = status.backups(SITE, house)  # type: ignore[arg-type]
    assert report.summary == "1 backups, and 2 broken: no one can restore those"
    assert [each["whole"] for each in report.facts["backups"]] == [False, False, True]
    assert report.lines[0].split() == ["backup", "moment", "(UTC)", "added", "gitea", "verified", "drilled"]
    cut, lost, whole = report.lines[1:]
    assert "BROKEN: its manifest is cut off" in cut
    assert "BROKEN: database and data and configuration missing" in lost
    assert whole.split() == [
        NEWEST.identity, "2026-11-23", "11:50:00", "1.0", "MiB", "28.1.0", "2026-11-23", "12:00", "-",
    ]  # fmt: skip
    assert report.facts["backups"][2]["verified"] == "2026-11-23T12:00:00+00:00"
    assert report.facts["backups"][2]["drilled"] is None


def test_where_the_bucket_s_repository_is_gone_each_backup_is_broken_and_not_forgotten(house: House) -> None:
    house.gone = "remote"
    world: Any = house
    report = status.backups(SITE, world)
    assert report.summary == "0 backups, and 3 broken: no one can restore those"
    assert "BROKEN: database and data and configuration missing from the remote repository" in report.lines[-1]


def test_a_site_with_no_backup_lists_none(house: House) -> None:
    house.aws.stored = {}
    report = status.backups(SITE, house)  # type: ignore[arg-type]
    assert (report.summary, report.lines, report.exit_code) == ("0 backups", (), 0)


def test_the_status_is_exit_3_with_every_finding_and_its_remedy(house: House, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "backups").mkdir()
    paths = HostPaths(data=tmp_path / "data", local=tmp_path / "backups/restic")
    report = status.status(SITE, house, paths=paths)  # type: ignore[arg-type]
    assert report.exit_code == 3
    assert report.summary.endswith("findings are red")
    assert any(
        each.startswith("RED media: the data and this host's repository are on one disk ->") for each in report.lines
    )
    assert any(each.startswith("ok  age: the newest backup is 10 min old") for each in report.lines)
