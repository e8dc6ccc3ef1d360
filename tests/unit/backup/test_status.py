"""The list of backups, and the checks of the 3-2-1 rule."""

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
from ops.backup.witness import OWNER, Folder
from ops.config import schema
from ops.config.paths import HostPaths
from ops.model import Probe
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
    last_prune=NOW - timedelta(days=30),
)
SITE = fakes.site()


def failing(facts: BackupInventory, now: datetime = NOW) -> dict[str, str]:
    return {each.name: each.seen for each in status.check(SITE, facts, now) if not each.healthy}


def test_three_verified_copies_on_two_media_and_one_off_site_are_healthy() -> None:
    assert failing(ALL_WELL) == {}
    assert {each.name for each in status.check(SITE, ALL_WELL, NOW)} == {
        "copies", "media", "elsewhere", "repositories", "age", "verified", "drilled", "pruned", "RTO", "RPO",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "name", "words"),
    [
        (replace(ALL_WELL, backups=()), "copies", "no whole backup"),
        (replace(ALL_WELL, local=set()), "copies", "database and data and configuration"),
        (replace(ALL_WELL, local=set(list(ALL_WELL.local)[:2])), "copies", "missing on this host"),
        (replace(ALL_WELL, two_disks=False), "media", "on one disk"),
        (replace(ALL_WELL, backups=ALL_WELL.backups[:1], local={p.local for p in OLDER.parts.values()}), "age", "30"),
        (replace(ALL_WELL, verifications=()), "verified", "no backup was verified yet"),
        (replace(ALL_WELL, last_prune=NOW - timedelta(days=31)), "pruned", "the last prune was 31 days ago"),
        (replace(ALL_WELL, drills=()), "drilled", "no drill has restored a backup yet"),
        (replace(ALL_WELL, drills=(Drill(NOW, "one", 3606.0, 1.0),)), "RTO", "60.1 min, 60 min are allowed"),
        (replace(ALL_WELL, drills=(Drill(NOW, "one", 1.0, 1806.0),)), "RPO", "30.1 min, 30 min are allowed"),
        (
            replace(ALL_WELL, backups=(*ALL_WELL.backups, Backup("20261123T115900Z", None, "data missing"))),
            "backup 20261123T115900Z",
            "data missing",
        ),
    ],
)
def test_each_fault_is_red_with_a_remedy(facts: BackupInventory, name: str, words: str) -> None:
    assert words in failing(facts)[name]
    assert len(failing(facts)) == 1
    assert all(each.remedy for each in status.check(SITE, facts, NOW) if not each.healthy)


@pytest.mark.parametrize(
    ("replication", "healthy", "words"),
    [
        ("COMPLETED", True, f"replicated by S3 to eu-west-1: backup {OLDER.identity} is COMPLETED"),
        ("FAILED", False, f"S3 has not replicated backup {OLDER.identity} to eu-west-1: FAILED"),
        ("PENDING", False, "PENDING"),
        ("", False, "S3 reports no replication to eu-west-1"),
        (None, True, "no backup is an hour old yet"),
    ],
)
def test_the_replica_has_the_state_that_s3_reports_for_an_hour_old_backup(
    replication: str | None, healthy: bool, words: str
) -> None:
    document = {"bucket": "example-org-gitea-backup", "replica_region": "eu-west-1"}
    facts = replace(ALL_WELL, replicated=None if replication is None else (OLDER.identity, replication))
    findings = status.check(fakes.site(backup=document), facts, NOW)
    (probe,) = (each for each in findings if each.name == "elsewhere")
    assert probe.healthy is healthy
    assert words in probe.seen
    assert probe.healthy or "ops deploy" in probe.remedy


@pytest.mark.parametrize(("minutes", "asked"), [(59, False), (60, True), (90, True)])
def test_the_replica_is_checked_for_the_newest_backup_older_than_an_hour(minutes: int, asked: bool) -> None:
    old = fakes.made(NOW - timedelta(minutes=minutes))
    found = status.replication_candidate([old, fakes.made(NOW)], NOW)
    assert found == (old if asked else None)


@pytest.mark.parametrize(("minutes", "healthy"), [(-6, False), (-4, True), (0, True), (30, True), (30.1, False)])
def test_a_newest_backup_that_is_too_old_or_from_the_future_is_red(minutes: float, healthy: bool) -> None:
    assert status.check_age(NOW - timedelta(minutes=minutes), 30, NOW).healthy is healthy


class Site(fakes.FakeWorld):
    """A world with two repositories of snapshots, or with one of them gone."""

    gone = ""

    def restic(self, repository: str, **_: Any) -> Site.Repository:
        kind = "remote" if repository.startswith("s3:") else "local"
        return self.Repository(kind, exists=kind != self.gone)

    class Repository:
        def __init__(self, kind: str, *, exists: bool) -> None:
            self.kind, self.exists = kind, exists

        def snapshots_or_none(self) -> tuple[Snapshot, ...] | None:
            if not self.exists:
                return None
            stored = (NEWEST, fakes.made(NOW - timedelta(minutes=40)))
            ids = {"remote": [part.remote for each in stored for part in each.parts.values()],
                   "local": [part.local for part in NEWEST.parts.values()]}  # fmt: skip
            return tuple(Snapshot(each, each) for each in ids[self.kind])


@pytest.fixture
def world() -> Site:
    lost = fakes.made(NOW - timedelta(minutes=25))
    cut = fakes.made(NOW - timedelta(minutes=40))
    stored = {manifest.key_of(each.identity): manifest.to_json(each) for each in (NEWEST, lost)}
    stored[manifest.key_of(cut.identity)] = manifest.to_json(cut)[:99]
    verified = Verification(NOW, NEWEST.identity, 1)
    stored[records.key_of(records.VERIFICATIONS, NOW)] = records.to_json(verified)
    return Site(aws=fakes.FakeAws(stored=stored))


def test_a_backup_with_a_truncated_manifest_or_missing_parts_is_listed_as_broken(
    world: Site,
) -> None:
    report = status.backups(SITE, world)  # type: ignore[arg-type]
    assert report.summary == "1 backups, and 2 broken that cannot be restored"
    assert [each["whole"] for each in report.facts["backups"]] == [False, False, True]
    assert report.lines[0].split() == ["backup", "moment", "(UTC)", "added", "gitea", "verified", "drilled"]
    cut, lost, whole = report.lines[1:]
    assert "BROKEN: its manifest is truncated" in cut
    assert "BROKEN: database and data and configuration missing" in lost
    assert whole.split() == [
        NEWEST.identity, "2026-11-23", "11:50:00", "1.0", "MiB", "28.1.0", "2026-11-23", "12:00", "-",
    ]  # fmt: skip
    assert report.facts["backups"][2]["verified"] == "2026-11-23T12:00:00+00:00"
    assert report.facts["backups"][2]["drilled"] is None


def test_without_the_bucket_s_repository_every_backup_is_listed_as_broken(world: Site) -> None:
    world.gone = "remote"
    report = status.backups(SITE, world)  # type: ignore[arg-type]
    assert report.summary == "0 backups, and 3 broken that cannot be restored"
    assert "BROKEN: database and data and configuration missing from the remote repository" in report.lines[-1]


def test_a_site_without_backups_has_an_empty_list(world: Site) -> None:
    world.aws.stored = {}
    report = status.backups(SITE, world)  # type: ignore[arg-type]
    assert (report.summary, report.lines, report.exit_code) == ("0 backups", (), 0)


def test_the_status_has_exit_code_3_and_every_finding_with_its_remedy(world: Site, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "backups").mkdir()
    paths = HostPaths(data=tmp_path / "data", local=tmp_path / "backups/restic")
    report = status.status(SITE, world, paths=paths)  # type: ignore[arg-type]
    assert report.exit_code == 3
    assert report.summary.endswith("findings are red")
    assert any(
        each.startswith("RED media: the data and this host's repository are on one disk ->") for each in report.lines
    )
    assert any(each.startswith("ok  age: the newest backup is 10 min old") for each in report.lines)
    assert "ok  off-site: S3 in eu-central-1" in report.lines
    assert {"name": "elsewhere", "healthy": True, "seen": "S3 in eu-central-1", "remedy": ""} in report.facts[
        "findings"
    ]


def checked(facts: BackupInventory, site: schema.Site = SITE) -> dict[str, Probe]:
    return {each.name: each for each in status.check(site, facts, NOW)}


def test_whole_backups_are_sorted_oldest_first() -> None:
    facts = replace(ALL_WELL, backups=(*reversed(ALL_WELL.backups), Backup("20261123T115900Z", None, "cut off")))
    assert facts.whole == (OLDER, NEWEST)
    # This host's repository has to hold the parts of the newest one.
    assert checked(facts)["copies"].seen.endswith(f"all with {NEWEST.identity}")


def test_each_healthy_probe_shows_its_evidence() -> None:
    seen = {name: probe.seen for name, probe in checked(ALL_WELL).items()}
    assert seen == {
        "copies": f"3: the data, this host's repository, the bucket; all with {NEWEST.identity}",
        "media": "2 disks of this host, and S3",
        "elsewhere": "S3 in eu-central-1",
        "repositories": "1, as in Gitea's database and on the data disk",
        "age": "the newest backup is 10 min old, 30 min are allowed",
        "verified": "passed on 2026-11-23 12:00 UTC",
        "drilled": "passed on 2026-11-22 12:00 UTC",
        "pruned": "the last prune was on 2026-10-24 12:00 UTC",
        "RTO": "the last drill took 60.0 min, 60 min are allowed",
        "RPO": "the last drill would have lost 30.0 min, 30 min are allowed",
    }


def test_the_remedy_of_a_failed_drill_names_the_option_that_accepts_its_finding() -> None:
    failed = Drill(NOW, "one", 1.0, 1.0, ("git fsck of a/b.git: missing blob",))
    assert "--accept" in checked(replace(ALL_WELL, drills=(failed,)))["drilled"].remedy
    assert "--accept" not in checked(replace(ALL_WELL, drills=()))["drilled"].remedy


def test_a_new_site_needs_no_verification_drill_or_prune_yet() -> None:
    begun = replace(ALL_WELL, backups=ALL_WELL.backups[1:], verifications=(), drills=(), last_prune=None)
    found = checked(begun)
    assert [name for name, probe in found.items() if not probe.healthy] == []
    assert {found[name].seen for name in ("verified", "drilled", "pruned")} == {"not yet, and not due yet"}
    # Without a drill RTO and RPO are not measured.
    assert "RTO" not in found
    assert "RPO" not in found


def test_verifications_and_drills_are_due_from_the_oldest_backup_on() -> None:
    facts = replace(ALL_WELL, verifications=(), drills=())
    assert failing(facts) == {
        "verified": "no backup was verified yet",
        "drilled": "no drill has restored a backup yet",
    }


def test_broken_backups_are_listed_without_any_whole_backup() -> None:
    broken = Backup("20261123T115900Z", None, "data missing")
    assert failing(replace(ALL_WELL, backups=(broken,))) == {
        "copies": "there is no whole backup",
        "backup 20261123T115900Z": "broken: data missing",
    }


def test_rto_and_rpo_are_those_of_the_last_drill_that_passed() -> None:
    slow = Drill(NOW - timedelta(days=3), "one", 7200.0, 60.0)
    quick = Drill(NOW - timedelta(days=2), "two", 600.0, 120.0)
    failed = Drill(NOW - timedelta(days=1), "three", 1.0, 1.0, ("row counts differ",))
    found = checked(replace(ALL_WELL, drills=(quick, slow, failed)))
    assert found["RTO"].seen == "the last drill took 10.0 min, 60 min are allowed"
    assert found["RPO"].seen == "the last drill would have lost 2.0 min, 30 min are allowed"


@pytest.mark.parametrize(
    ("age", "well", "seen"),
    [
        (timedelta(minutes=-5), True, "the newest backup is 0 min old, 30 min are allowed"),
        (
            timedelta(minutes=-5, seconds=-1),
            False,
            "the newest backup is of 2026-11-23 12:05 UTC, in the future",
        ),
        (timedelta(seconds=119), True, "the newest backup is 1 min old, 30 min are allowed"),
        (timedelta(minutes=30), True, "the newest backup is 30 min old, 30 min are allowed"),
        (timedelta(minutes=30, seconds=1), False, "the newest backup is 30 min old, 30 min are allowed"),
    ],
)
def test_the_age_is_shown_in_whole_minutes_and_checked_to_the_second(age: timedelta, well: bool, seen: str) -> None:
    probe = status.check_age(NOW - age, 30, NOW)
    assert (probe.name, probe.healthy, probe.seen) == ("age", well, seen)


def test_missing_local_parts_are_named() -> None:
    some = set(ALL_WELL.local) - {NEWEST.parts["data"].local}
    seen = failing(replace(ALL_WELL, local=some))["copies"]
    assert seen == f"2: the data, the bucket. data of {NEWEST.identity} missing on this host"


def test_replication_is_checked_one_hour_after_the_end_of_a_backup() -> None:
    moment = NOW - timedelta(hours=2)
    ended = fakes.made(moment, finished=NOW - timedelta(hours=1))
    late = fakes.made(moment, finished=NOW - timedelta(minutes=59, seconds=59))
    assert status.replication_candidate([ended], NOW) == ended
    assert status.replication_candidate([late], NOW) is None
    older = fakes.made(NOW - timedelta(hours=5))
    assert status.replication_candidate([ended, older], NOW) == ended
    assert status.replication_candidate([older, ended], NOW) == ended


def test_without_a_replica_the_bucket_s_region_is_the_other_place() -> None:
    found = checked(replace(ALL_WELL, replicated=(OLDER.identity, "FAILED")))["elsewhere"]
    assert (found.healthy, found.seen) == (True, "S3 in eu-central-1")


def test_the_list_of_backups_is_a_table() -> None:
    whole = Backup(NEWEST.identity, NEWEST, verified=NOW, drilled=NOW - timedelta(days=1))
    unnamed = replace(NEWEST, identity="older", versions={})
    rows = tuple(status._row(each) for each in (whole, Backup("older", unnamed), Backup("cut", None, "cut off")))
    assert rows == (
        (NEWEST.identity, "2026-11-23 11:50:00", "1.0 MiB", "28.1.0", "2026-11-23 12:00", "2026-11-22 12:00", ""),
        ("older", "2026-11-23 11:50:00", "1.0 MiB", "", "-", "-", ""),
        ("cut", "", "", "", "", "", "BROKEN: cut off"),
    )
    head, first, _, last = status._lines(rows)
    assert head == "backup            moment (UTC)         added    gitea   verified          drilled"
    assert first == f"{NEWEST.identity}  2026-11-23 11:50:00  1.0 MiB  28.1.0  2026-11-23 12:00  2026-11-22 12:00"
    assert last.split() == ["cut", "BROKEN:", "cut", "off"]
    assert last.index("BROKEN") == len(first) + 2
    assert status._lines(()) == ()


def test_a_backup_in_json_has_size_versions_and_proofs() -> None:
    whole = Backup(NEWEST.identity, NEWEST, verified=NOW, drilled=NOW - timedelta(days=1))
    assert status._document(whole) == {
        "identity": NEWEST.identity,
        "whole": True,
        "moment": "2026-11-23T11:50:00+00:00",
        "stored": 2**20,
        "size": 3000,
        "versions": {"gitea": "28.1.0"},
        "repositories": 1,
        "paused": 0.1,
        "verified": "2026-11-23T12:00:00+00:00",
        "drilled": "2026-11-22T12:00:00+00:00",
    }
    unproven = status._document(Backup(NEWEST.identity, NEWEST))
    assert (unproven["verified"], unproven["drilled"]) == (None, None)
    assert status._document(Backup("cut", None, "cut off")) == {
        "identity": "cut",
        "whole": False,
        "broken": "cut off",
    }


@pytest.mark.parametrize(
    ("newest", "seen"),
    [
        ("COMPLETED", "1 of 2 checked objects are not in eu-west-1: restic/config (never replicated)"),
        ("FAILED", f"S3 has not replicated backup {OLDER.identity} to eu-west-1: FAILED"),
    ],
)
def test_a_replicated_backup_does_not_count_while_the_replica_lacks_other_objects(newest: str, seen: str) -> None:
    site = fakes.site(backup={"bucket": "example-org-gitea-backup", "replica_region": "eu-west-1"})
    replica = {"restic/config": "", "restic/keys/0af3": "COMPLETED"}
    probe = checked(replace(ALL_WELL, replicated=(OLDER.identity, newest), replica=replica), site)["elsewhere"]
    assert (probe.healthy, probe.seen) == (False, seen)


def test_only_a_folder_from_before_the_newest_backup_has_to_be_in_it() -> None:
    moment = NEWEST.moment.timestamp()
    folders = [Folder(f"a/{number}.git", OWNER, moment - 1) for number in range(1, 7)]
    changed_since = Folder("a/new.git", OWNER, moment)
    probe = checked(replace(ALL_WELL, folders=(*folders, changed_since)))["repositories"]
    missing = f"backup {NEWEST.identity} has no a/1.git, a/2.git, a/3.git, a/4.git, a/5.git, 6 in all"
    assert (probe.healthy, probe.seen) == (False, missing)
    assert checked(replace(ALL_WELL, folders=(changed_since, Folder("a/b.git", OWNER, 0))))["repositories"].healthy


def test_up_to_five_doubts_about_the_repositories_of_a_backup_are_shown() -> None:
    lacking = replace(NEWEST, missing=tuple(f"a/{number}.git" for number in range(6)))
    facts = replace(ALL_WELL, backups=(Backup(OLDER.identity, OLDER), Backup(lacking.identity, lacking)))
    probe = checked(facts)["repositories"]
    assert not probe.healthy
    assert [line.split()[1] for line in probe.seen.split("; ")] == [f"a/{number}.git" for number in range(5)]
