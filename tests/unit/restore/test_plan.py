"""Which backup is chosen, what speaks against it, and what a restore from the WAL replays."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ops.backup import catalogue, manifest
from ops.backup.manifest import Backup
from ops.errors import Refused
from ops.restore import plan, staging
from ops.restore.plan import RestorePreconditions, RestoreRequest
from ops.wal import segments
from ops.wal.segments import BaseBackup
from tests.support.fake_restore_host import MADE, NOON

FACTS = RestorePreconditions("28.1.0", 10**9, "")


def at(hours: int) -> Backup:
    moment = NOON + timedelta(hours=hours)
    made = replace(MADE, identity=manifest.identity_of(moment), moment=moment)
    return Backup(made.identity, made)


@pytest.mark.parametrize(
    ("requested", "chosen"),
    [
        (RestoreRequest(), "20261123T120000Z"),
        (RestoreRequest(identity="20261123T100000Z"), "20261123T100000Z"),
        (RestoreRequest(at=NOON), "20261123T110000Z"),
        (RestoreRequest(at=NOON - timedelta(seconds=1)), "20261123T100000Z"),
    ],
)
def test_the_newest_valid_backup_that_is_not_too_new_is_chosen(requested: RestoreRequest, chosen: str) -> None:
    broken = Backup("20261123T130000Z", None, "data missing from the remote repository")
    assert catalogue.choose([at(0), broken, at(1), at(-1)], requested.identity, requested.at).identity == chosen


@pytest.mark.parametrize(
    ("requested", "words", "remedy"),
    [
        (RestoreRequest(identity="20261123T130000Z"), "is broken: data missing", "choose another"),
        (RestoreRequest(identity="never"), "there is no backup never", "20261123T110000Z"),
        (RestoreRequest(at=NOON - timedelta(days=1)), "at or before 2026-11-22 11:00:00", "ops backup list"),
    ],
)
def test_a_missing_or_broken_backup_is_refused(requested: RestoreRequest, words: str, remedy: str) -> None:
    broken = Backup("20261123T130000Z", None, "data missing from the remote repository")
    with pytest.raises(Refused, match=words) as refused:
        catalogue.choose([at(0), broken], requested.identity, requested.at)
    assert remedy in refused.value.hint


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(FACTS, version="28.0.9"), "of Gitea 28.1.0, 28.0.9 runs here"),
        (replace(FACTS, version="1.27.3"), "of Gitea 28.1.0, 1.27.3 runs here"),
        (replace(FACTS, secret_key="other"), "another SECRET_KEY"),
        (replace(FACTS, free=2000), "2.0 KiB are free on the data disk, the backup needs 2.1 KiB"),
    ],
)
def test_a_backup_that_cannot_be_restored_is_refused_before_it_is_fetched(
    facts: RestorePreconditions, words: str
) -> None:
    (problem,) = plan.blockers(MADE, facts)
    assert words in problem


def test_a_newer_gitea_migrates_a_restored_backup() -> None:
    assert plan.blockers(MADE, replace(FACTS, free=2100)) == ()
    newer = replace(FACTS, version="28.2.0")
    assert plan.blockers(MADE, newer) == ()
    now = NOON + timedelta(hours=26, minutes=5)
    assert not any("migrated" in line for line in plan.plan_restore(MADE, FACTS, RestoreRequest(), now))
    lines = "\n".join(plan.plan_restore(MADE, newer, RestoreRequest(), now))
    assert "from Gitea 28.1.0 to 28.2.0" in lines
    assert "as it was at 2026-11-23 11:00:00 UTC" in lines
    assert "lost: the data written since, 1 days 2 h" in lines


def test_every_difference_from_the_manifest_is_named() -> None:
    assert staging.compare(MADE, {"user": 3, "more": 1}, dict(MADE.repositories)) == []
    found = staging.compare(MADE, {}, {"a/b.git": "else", "c/d.git": "new"})
    assert found == ["table user has no rows of 3", "repository a/b.git differs", "repository c/d.git differs"]


WITH_WAL = replace(MADE, system="7345", position=segments.position_as_text(7 * segments.SEGMENT_BYTES + 500))
BASE = BaseBackup(
    "20261123T030000Z",
    "7345",
    1,
    5 * segments.SEGMENT_BYTES,
    5 * segments.SEGMENT_BYTES + 9,
    NOON,
    "l",
    "r",
    2**20,
    "18.6",
)
SEGMENTS = [segments.Segment(number, 1).name() for number in range(4, 12)]


def test_base_backup_and_wal_recover_the_backup_s_moment_or_the_newest_database() -> None:
    moment = plan.plan_wal(WITH_WAL, [BASE], SEGMENTS, newest=False)
    assert (moment.stop, moment.names) == (segments.position_from(WITH_WAL.position), tuple(SEGMENTS[1:5]))
    newest = plan.plan_wal(WITH_WAL, [BASE], SEGMENTS, newest=True)
    assert (newest.stop, newest.names) == (None, tuple(SEGMENTS[1:]))


def test_wal_is_only_replayed_by_the_major_version_that_wrote_it() -> None:
    planned = plan.plan_wal(WITH_WAL, [BASE], SEGMENTS, newest=True)
    plan.require_reader(planned, "18.7")
    with pytest.raises(Refused, match="PostgreSQL 18 wrote that WAL, and 19 runs here") as caught:
        plan.require_reader(planned, "19.0")
    assert "--from-wal" in caught.value.hint


def test_a_restore_with_a_newer_database_warns_of_contradictions() -> None:
    moment = plan.plan_wal(WITH_WAL, [BASE], SEGMENTS, newest=False)
    assert plan.wal_lines(WITH_WAL, moment, newest=False) == (
        "database: base backup 20261123T030000Z (1.0 MiB) and 4 WAL files, until position 0/70001F4",
    )
    (_, warning) = plan.wal_lines(WITH_WAL, plan.plan_wal(WITH_WAL, [BASE], SEGMENTS, newest=True), newest=True)
    assert warning.startswith(
        "may disagree: the database is as new as its WAL, the repositories are of 2026-11-23 11:00:00 UTC"
    )


def test_a_backup_without_its_dump_is_valid_for_a_restore_from_wal() -> None:
    available = [part.remote for name, part in WITH_WAL.parts.items() if name != "database"]
    document = manifest.to_json(WITH_WAL)
    assert (
        manifest.check_backup(WITH_WAL.identity, document, available).broken
        == "database missing from the remote repository"
    )
    for requested in (RestoreRequest(from_wal=True), RestoreRequest(newest_database=True)):
        assert manifest.check_backup(WITH_WAL.identity, document, available, requested.needed).manifest == WITH_WAL
    assert manifest.check_backup(WITH_WAL.identity, document, [], RestoreRequest(from_wal=True).needed).manifest is None


def test_a_restore_of_one_repository_needs_the_data_of_a_backup_alone() -> None:
    document, one = manifest.to_json(MADE), RestoreRequest(repository="a/b").needed
    for name, part in MADE.parts.items():
        found = manifest.check_backup(MADE.identity, document, [part.remote], one)
        assert (found.manifest == MADE) is (name == "data")


def test_a_base_backup_needs_free_space_beside_the_site() -> None:
    assert plan.blockers(MADE, replace(FACTS, free=2100)) == ()
    (problem,) = plan.blockers(MADE, replace(FACTS, free=2100), base=1)
    assert "are free on the data disk" in problem


def test_the_plan_says_where_the_data_comes_from(tmp_path: Path) -> None:
    now = NOON + timedelta(hours=1)
    fetched = plan.plan_restore(MADE, FACTS, RestoreRequest(), now)
    cloned = plan.plan_restore(MADE, replace(FACTS, snapshot=tmp_path), RestoreRequest(), now)
    assert "fetched: data, 1000 bytes with 1 repositories; 2.0 KiB of database and settings" in fetched
    assert "fetched: 2.0 KiB of database and settings" in cloned
    assert [line for line in cloned if line.startswith("cloned: data, 1000 bytes with 1 rep") and "--full-copy" in line]
    assert not [line for line in fetched if "--full-copy" in line]


def test_a_broken_backup_that_is_passed_over_is_named() -> None:
    broken = [replace(at(hours), manifest=None, broken="its manifest is truncated") for hours in (-1, 1, 2)]
    assert catalogue.passed_over([at(0), *broken], MADE) == tuple(
        f"skipped: backup 20261123T1{hour}0000Z is newer, but broken: its manifest is truncated" for hour in (2, 3)
    )
    assert len(catalogue.passed_over([at(0), *broken], MADE, at=NOON + timedelta(hours=1))) == 1
    assert catalogue.passed_over([at(0), *broken], MADE, MADE.identity) == ()
