"""The decisions of a restore, and that a failure leaves either the old site or the restored one, complete.

That it may be interrupted anywhere: tests/integration/test_interruptions.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import catalogue, manifest
from ops.backup.manifest import Backup, Part
from ops.errors import Degraded, OpsError, Refused, RolledBack, Stranded
from ops.model import Secret
from ops.restore import plan, restore, staging
from ops.restore.plan import RestorePreconditions, RestoreRequest
from ops.restore.staging import ASIDE, STAGED
from ops.stack import accounts
from ops.wal import segments
from ops.wal.segments import BaseBackup
from tests.support.fake_restore_host import MADE, NOON, REFS, SITE, FakeRestoreHost, Killed

FACTS = RestorePreconditions("28.1.0", 10**9, "")
OTHER = {name: Part(f"remote-{name}-2", f"local-{name}-2", 1000) for name in manifest.PARTS}


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


@pytest.fixture(autouse=True)
def administrators(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(accounts, "ensure_admin", lambda site, world: asked.append(world.content()))
    return asked


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "token", lambda site, world: nullcontext(Secret("t")))


@pytest.fixture
def host(tmp_path: Path) -> FakeRestoreHost:
    return FakeRestoreHost(directory=tmp_path)


def test_a_restored_site_runs_and_the_old_one_is_kept_aside(host: FakeRestoreHost) -> None:
    report = host.ops()
    assert (host.content(), host.running) == ("then", True)
    assert host.maintenance_calls == ["none", "push", "all", "none"]
    assert host.databases == {"gitea": "then", ASIDE: "now"}
    assert (host.paths.data / ".restore/before/git/repositories/a/b.git/content").read_text() == "now"
    assert report.facts["identity"] == MADE.identity
    host.databases["gitea"] = "now"
    (host.paths.live / "git/repositories/a/b.git/content").write_text("now")
    host.ops()  # what the first restore kept aside is replaced
    assert host.databases == {"gitea": "then", ASIDE: "now"}


def test_the_administrator_of_a_backup_can_sign_in_with_the_current_password(
    host: FakeRestoreHost, administrators: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.ops()
    assert administrators == ["then"]

    def refuse(site: Any, world: Any) -> None:
        raise OpsError("Gitea answers 500", "")

    monkeypatch.setattr(accounts, "ensure_admin", refuse)
    with pytest.raises(Degraded, match="cannot sign in: Gitea answers 500"):
        host.ops()
    assert (host.content(), host.running) == ("then", True)
    assert host.resume().changed is False


HOOKS, KEYS = (["gitea", "admin", "regenerate", name] for name in ("hooks", "keys"))


def test_a_restore_writes_the_hooks_and_reports_a_failure_to_do_so(host: FakeRestoreHost) -> None:
    host.ops()
    assert host.executed == [HOOKS, KEYS]
    host.regenerate_codes = {"hooks": 1}
    for requested in ({}, {"repository": "a/b"}):
        with pytest.raises(Degraded, match="hooks could not be written: permission denied"):
            host.ops(**requested)
        assert (host.content(), host.running) == ("then", True)


def test_a_restore_writes_the_ssh_keys_of_the_database_and_reports_a_failure_to_do_so(host: FakeRestoreHost) -> None:
    host.regenerate_codes = {"keys": 1}
    with pytest.raises(Degraded, match="the ssh keys could not be written: permission denied") as degraded:
        host.ops()
    assert "gitea admin regenerate keys" in degraded.value.hint
    assert (host.content(), host.running) == ("then", True)
    # The database of one repository's owner is not restored.
    host.executed.clear()
    host.ops(repository="a/b")
    assert KEYS not in host.executed


@pytest.mark.parametrize("from_snapshot", [True, False])
def test_a_restored_site_has_no_search_index_of_another_moment(host: FakeRestoreHost, from_snapshot: bool) -> None:
    if from_snapshot:
        host.keep_snapshot()
    host.ops()
    assert [each.name for each in (host.paths.live / "gitea").iterdir()] == ["avatars"]


def test_data_is_cloned_from_its_snapshot_and_the_snapshot_stays(host: FakeRestoreHost) -> None:
    snapshot = host.keep_snapshot()
    # A clone needs no further space.
    host.free_bytes = 1500
    report = host.ops()
    assert (host.content(), host.running, report.facts["picture"]) == ("then", True, True)
    assert "restore data" not in host.actions
    assert (snapshot / "git/repositories/a/b.git/content").read_text() == "then"
    assert host.databases == {"gitea": "then", ASIDE: "now"}


def test_the_snapshot_also_serves_an_earlier_backup_of_the_same_data(host: FakeRestoreHost) -> None:
    host.keep_snapshot(identity="20261123T120000Z")
    host.ops(identity=MADE.identity)
    assert (host.content(), "restore data" in host.actions) == ("then", False)


@pytest.mark.parametrize(
    ("requested", "change"),
    [
        ({"full_copy": True}, lambda host: None),
        ({}, lambda host: setattr(host, "btrfs_errors", ("corruption_errs 1",))),
        ({}, lambda host: host.paths.newest.unlink()),
        ({}, lambda host: shutil.rmtree(host.paths.snapshot_of(MADE.identity))),
        ({}, lambda host: host.paths.newest.write_bytes(manifest.to_json(replace(MADE, parts=OTHER)))),
        ({"repository": "a/b"}, lambda host: None),
    ],
    ids=["full copy", "checksum errors", "no manifest", "no snapshot", "another backup's", "one repository"],
)
def test_data_is_fetched_if_its_snapshot_must_not_be_used(
    host: FakeRestoreHost, requested: dict[str, Any], change: Callable[[FakeRestoreHost], object]
) -> None:
    host.keep_snapshot("something else")
    change(host)
    host.ops(**requested)
    assert "restore data" in host.actions
    assert "clone" not in host.actions
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"


def _snapshot_differs(host: FakeRestoreHost) -> None:
    host.refs = {"then": REFS, "damaged": REFS.replace("0001", "0002")}
    host.keep_snapshot("damaged")


def _cannot_be_read(host: FakeRestoreHost) -> None:
    host.unreadable_content = "damaged"
    host.keep_snapshot("damaged")


def _cannot_be_cloned(host: FakeRestoreHost) -> None:
    host.clone_fails = True
    host.keep_snapshot()


def _gets_checksum_errors(host: Any) -> None:
    host.keep_snapshot()
    errors = iter([(), ("corruption_errs 1",)])
    host.errors = lambda folder: next(errors)


UNUSABLE_SNAPSHOTS = [
    (_snapshot_differs, "repository a/b.git differs"),
    (_cannot_be_read, "the repositories cannot be listed"),
    (_cannot_be_cloned, "No space left on device"),
    (_gets_checksum_errors, "corruption_errs 1"),
]


@pytest.mark.parametrize(("prepare", "why"), UNUSABLE_SNAPSHOTS)
def test_data_is_fetched_if_its_snapshot_cannot_be_used(
    host: FakeRestoreHost, prepare: Callable[[FakeRestoreHost], None], why: str
) -> None:
    prepare(host)
    report = host.ops()
    assert (host.content(), host.running, report.facts["picture"]) == ("then", True, False)
    assert host.actions.index("clone") < host.actions.index("restore data") < host.actions.index("stop")
    assert [line for line in host.progress if "fetching everything" in line and why in line]


@pytest.mark.parametrize(("prepare", "why"), UNUSABLE_SNAPSHOTS)
def test_data_is_not_fetched_instead_of_a_snapshot_without_free_space(
    host: FakeRestoreHost, prepare: Callable[[FakeRestoreHost], None], why: str
) -> None:
    prepare(host)
    host.free_bytes = 1500
    with pytest.raises(Refused, match="are free on the data disk") as refused:
        host.ops()
    assert why in refused.value.message
    assert "restore data" not in host.actions
    assert (host.content(), host.running, host.databases) == ("now", True, {"gitea": "now"})
    assert list((host.paths.data / ".restore").iterdir()) == []


def test_a_database_that_differs_from_the_manifest_does_not_discard_the_snapshot(host: FakeRestoreHost) -> None:
    host.keep_snapshot()
    host.rows = 4
    with pytest.raises(Refused, match="table user has 4 rows of 3"):
        host.ops()
    assert "restore data" not in host.actions


def test_with_a_snapshot_a_damaged_local_copy_costs_only_the_fetch_of_the_database(host: FakeRestoreHost) -> None:
    host.keep_snapshot()
    host.damaged = {"local"}
    host.ops()
    assert (host.content(), "restore data" in host.actions) == ("then", False)
    assert [line for line in host.progress if "fetching the database from the bucket" in line]


def test_the_plan_says_where_the_data_comes_from(tmp_path: Path) -> None:
    now = NOON + timedelta(hours=1)
    fetched = plan.plan_restore(MADE, FACTS, RestoreRequest(), now)
    cloned = plan.plan_restore(MADE, replace(FACTS, snapshot=tmp_path), RestoreRequest(), now)
    assert "fetched: data, 1000 bytes with 1 repositories; 2.0 KiB of database and settings" in fetched
    assert "fetched: 2.0 KiB of database and settings" in cloned
    assert [line for line in cloned if line.startswith("cloned: data, 1000 bytes with 1 rep") and "--full-copy" in line]
    assert not [line for line in fetched if "--full-copy" in line]


def test_a_damaged_local_copy_is_replaced_by_the_one_in_the_bucket(host: FakeRestoreHost) -> None:
    host.damaged = {"local"}
    host.ops()
    assert host.content() == "then"
    assert any("from the bucket: local: ciphertext verification failed" in line for line in host.progress)


def test_a_backup_that_is_damaged_in_both_repositories_is_not_restored_and_the_failed_step_is_named(
    host: FakeRestoreHost,
) -> None:
    host.damaged = {"local", "remote"}
    with pytest.raises(RolledBack) as failed:
        host.ops()
    assert "the site was not changed: fetch: remote: ciphertext verification failed" in failed.value.message
    assert (host.content(), host.running, host.databases) == ("now", True, {"gitea": "now"})
    assert list((host.paths.data / ".restore").iterdir()) == []


def test_resume_removes_what_a_killed_restore_fetched_and_keeps_what_was_set_aside(host: FakeRestoreHost) -> None:
    host.ops()
    (host.paths.data / ".restore/gitea/half").mkdir(parents=True)
    host.databases[STAGED] = "half"
    assert not host.resume().changed
    assert [each.name for each in (host.paths.data / ".restore").iterdir()] == ["before"]
    assert host.databases == {"gitea": "then", ASIDE: "now"}


def test_a_broken_backup_that_is_passed_over_is_named() -> None:
    broken = [replace(at(hours), manifest=None, broken="its manifest is truncated") for hours in (-1, 1, 2)]
    assert catalogue.passed_over([at(0), *broken], MADE) == tuple(
        f"skipped: backup 20261123T1{hour}0000Z is newer, but broken: its manifest is truncated" for hour in (2, 3)
    )
    assert len(catalogue.passed_over([at(0), *broken], MADE, at=NOON + timedelta(hours=1))) == 1
    assert catalogue.passed_over([at(0), *broken], MADE, MADE.identity) == ()


def test_a_dry_run_and_an_unconfirmed_restore_change_nothing(host: FakeRestoreHost) -> None:
    report = host.ops(dry_run=True)
    assert not report.changed
    assert report.facts["plan"] == list(report.lines)

    def never(name: str, lines: Sequence[str]) -> None:
        raise Refused("not confirmed")

    with pytest.raises(Refused):
        restore.restore(SITE, host, request=RestoreRequest(), confirm=never, paths=host.paths)  # type: ignore[arg-type]
    assert host.actions == []


def test_data_that_differs_from_the_manifest_is_never_put_in_place(host: FakeRestoreHost) -> None:
    host.refs = {"then": REFS.replace("0001", "0002")}
    with pytest.raises(OpsError, match=r"repository a/b\.git differs"):
        host.ops()
    assert (host.content(), host.running) == ("now", True)
    assert host.databases == {"gitea": "now"}
    assert list((host.paths.data / ".restore").iterdir()) == []
    assert "stop" not in host.actions


def test_an_unreadable_dump_without_wal_leaves_the_site_unchanged(host: FakeRestoreHost) -> None:
    host.dump_unreadable = True
    with pytest.raises(OpsError, match=r"is damaged\nand from WAL: backup .* is from before WAL was archived"):
        host.ops()
    assert (host.content(), host.running) == ("now", True)
    assert "the dump cannot be used, recovering its moment from base backup and WAL" in host.progress[-1]


def test_a_restored_site_that_does_not_start_is_rolled_back(host: FakeRestoreHost) -> None:
    host.comes_up = lambda content: content == "now"
    began = host.clock.monotonic()
    with pytest.raises(RolledBack):
        host.ops()
    # As long as an update may take: a backup of an earlier version is migrated, too.
    assert 15 * 60 < host.clock.monotonic() - began < 16 * 60
    assert (host.content(), host.running) == ("now", True)
    assert host.databases == {"gitea": "now"}
    host.comes_up = lambda content: False
    with pytest.raises(Stranded, match="back in its place and does not start either") as stranded:
        host.ops()
    assert "systemctl restart gitea-suite" in stranded.value.hint
    assert host.content() == "now"


def test_the_next_run_puts_a_site_back_that_could_not_be_put_back(
    host: FakeRestoreHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.comes_up = lambda content: content == "now"
    started = host.start

    def refuses(project: str, service: str) -> None:
        if host.content() == "now":
            raise OpsError("the engine does not start it")
        started(project, service)

    with monkeypatch.context() as patched:
        patched.setattr(host, "start", refuses)
        with pytest.raises(Stranded, match="cannot be put back: the engine does not start it") as stranded:
            host.ops()
    assert "ops restore --resume" in stranded.value.hint
    assert host.resume().changed
    assert (host.content(), host.running, host.databases["gitea"]) == ("now", True, "now")


@pytest.mark.parametrize("name", ["a/never", "a", "../b", "a/b.git"])
def test_a_repository_that_the_backup_does_not_contain_is_refused(host: FakeRestoreHost, name: str) -> None:
    with pytest.raises(Refused, match="has no repository"):
        host.ops(repository=name)
    assert host.actions == []


def test_a_single_repository_needs_neither_space_for_the_whole_site_nor_its_secret_key(host: FakeRestoreHost) -> None:
    host.free_bytes = 10
    (host.paths.secrets / "gitea-secret-key").write_text("another")
    with pytest.raises(Refused, match="are free on the data disk"):
        host.ops()
    host.ops(repository="a/b")
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"


def test_a_single_repository_replaces_no_database_and_does_not_stop_gitea(host: FakeRestoreHost) -> None:
    host.ops(repository="A/b")
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"
    assert host.databases == {"gitea": "now"}
    assert "stop" not in host.actions
    assert not (host.paths.data / ".restore/journal").exists()


def test_what_a_single_repository_replaced_is_kept_outside_gitea_s_data_until_the_next_restore(
    host: FakeRestoreHost,
) -> None:
    kept = host.paths.data / ".restore/repository"
    report = host.ops(repository="a/b")
    assert (kept / "content").read_text() == "now"
    assert not (host.paths.live / ".restored").exists()
    assert f"kept aside until the next restore: {kept}" in report.lines
    host.ops(repository="a/b")
    assert (kept / "content").read_text() == "then"
    host.ops()
    assert not kept.exists()


@pytest.mark.parametrize("verb", ["resume", "ops"])
def test_what_an_earlier_release_kept_in_gitea_s_data_is_moved_out(host: FakeRestoreHost, verb: str) -> None:
    before = host.paths.live / ".restored/before"
    before.mkdir(parents=True)
    (before / "content").write_text("long ago")
    if verb == "resume":
        assert host.resume().changed is False
    else:
        host.ops(dry_run=True)
    assert (host.paths.data / ".restore/repository/content").read_text() == "long ago"
    assert not (host.paths.live / ".restored").exists()


def test_a_restore_of_one_repository_may_be_killed_anywhere(tmp_path: Path) -> None:
    whole = FakeRestoreHost(directory=tmp_path / "whole")
    whole.ops(repository="a/b")
    for number in range(len(whole.actions)):
        host = FakeRestoreHost(directory=tmp_path / str(number), dies_before=number)
        with pytest.raises(Killed):
            host.ops(repository="a/b")
        host.resume()
        assert (host.paths.live / "git/repositories/a/b.git/content").read_text() in {"now", "then"}
        assert not (host.paths.live / ".restored").exists(), whole.actions[number]
        assert not (host.paths.data / ".restore/journal").exists()


@pytest.mark.parametrize("name", ["a/never", "a", "../b"])
def test_a_dry_run_for_a_repository_that_is_not_in_the_backup_is_refused_as_the_restore_is(
    host: FakeRestoreHost, name: str
) -> None:
    with pytest.raises(Refused, match="has no repository"):
        host.ops(repository=name, dry_run=True)


def test_a_dry_run_for_a_repository_that_is_not_on_the_site_is_refused_as_the_restore_is(host: FakeRestoreHost) -> None:
    shutil.rmtree(host.paths.live / "git/repositories/a/b.git")
    for dry_run in (True, False):
        with pytest.raises(Refused, match="does not exist on the site"):
            host.ops(repository="a/b", dry_run=dry_run)


def test_a_single_repository_is_fetched_from_the_bucket_if_the_local_copy_is_damaged(host: FakeRestoreHost) -> None:
    host.damaged = {"local"}
    host.ops(repository="a/b")
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "then"
    assert any("from the bucket: local: ciphertext verification failed" in line for line in host.progress)
    host.damaged = {"local", "remote"}
    (host.paths.live / "git/repositories/a/b.git/content").write_text("now")
    with pytest.raises(OpsError, match="remote: ciphertext verification failed"):
        host.ops(repository="a/b")
    assert (host.paths.live / "git/repositories/a/b.git/content").read_text() == "now"


def test_the_secret_key_of_a_backup_is_written_to_a_file_for_root_and_not_printed(host: FakeRestoreHost) -> None:
    made = restore.keep_secret_key(SITE, host, request=RestoreRequest(), paths=host.paths)  # type: ignore[arg-type]
    file = Path(made.facts["file"])
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("k", 0o400)
    assert file.parent == host.paths.secrets.parent
    restore.keep_secret_key(SITE, host, request=RestoreRequest(), paths=host.paths)  # type: ignore[arg-type]
    host.ini = host.ini.replace("= k", "= another")
    with pytest.raises(OpsError, match=r"SECRET_KEY in app\.ini of backup .* does not match its manifest"):
        restore.keep_secret_key(SITE, host, request=RestoreRequest(), paths=host.paths)  # type: ignore[arg-type]
    assert host.actions == []


@pytest.mark.parametrize("ini", ["", "[security]\n", "[security]\nSECRET_KEY =\n"])
def test_an_app_ini_without_a_secret_key_is_an_error(ini: str) -> None:
    with pytest.raises(OpsError, match="has no SECRET_KEY"):
        restore.secret_key_from(ini)


def test_a_secret_key_is_read_in_gitea_s_format() -> None:
    assert restore.secret_key_from("A = b % c\n[security]\nSECRET_KEY = `a=b;c#%d`\n").reveal() == "a=b;c#%d"
