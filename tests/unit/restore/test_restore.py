"""What a restore decides, and that whatever fails leaves one site or the other, whole.

That it may be cut off anywhere: tests/integration/test_cut_off.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import catalogue, manifest
from ops.backup.manifest import Backup, Part
from ops.errors import Degraded, OpsError, Refused, RolledBack, Stranded
from ops.restore import plan, restore, staging
from ops.restore.plan import RestorePreconditions, RestoreRequest
from ops.restore.staging import ASIDE, STAGED
from ops.stack import accounts
from ops.wal import segments
from ops.wal.segments import BaseBackup
from tests.support.fake_restore_host import MADE, NOON, REFS, SITE, Machine

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
def test_the_newest_whole_backup_that_is_not_too_new_is_chosen(requested: RestoreRequest, chosen: str) -> None:
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
def test_a_backup_that_is_not_there_or_broken_is_refused(requested: RestoreRequest, words: str, remedy: str) -> None:
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
def test_what_could_not_be_restored_is_refused_before_anything_is_fetched(
    facts: RestorePreconditions, words: str
) -> None:
    (problem,) = plan.blockers(MADE, facts)
    assert words in problem


def test_what_fits_is_restored_and_by_a_newer_gitea_migrated() -> None:
    assert plan.blockers(MADE, replace(FACTS, free=2100)) == ()
    newer = replace(FACTS, version="28.2.0")
    assert plan.blockers(MADE, newer) == ()
    now = NOON + timedelta(hours=26, minutes=5)
    assert not any("migrated" in line for line in plan.plan_restore(MADE, FACTS, RestoreRequest(), now))
    said = "\n".join(plan.plan_restore(MADE, newer, RestoreRequest(), now))
    assert "from Gitea 28.1.0 to 28.2.0" in said
    assert "as it was at 2026-11-23 11:00:00 UTC" in said
    assert "lost: what was written since, 1 days 2 h" in said


def test_every_difference_from_the_manifest_is_named() -> None:
    assert staging.compare(MADE, {"user": 3, "more": 1}, dict(MADE.repositories)) == []
    found = staging.compare(MADE, {}, {"a/b.git": "else", "c/d.git": "new"})
    assert found == ["table user has no rows of 3", "repository a/b.git differs", "repository c/d.git differs"]


LOGGED = replace(MADE, system="7345", position=segments.position_as_text(7 * segments.SEGMENT_BYTES + 500))
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


def test_base_and_log_make_the_database_of_the_backup_s_moment_or_the_newest() -> None:
    moment = plan.plan_wal(LOGGED, [BASE], SEGMENTS, newest=False)
    assert (moment.stop, moment.names) == (segments.position_from(LOGGED.position), tuple(SEGMENTS[1:5]))
    newest = plan.plan_wal(LOGGED, [BASE], SEGMENTS, newest=True)
    assert (newest.stop, newest.names) == (None, tuple(SEGMENTS[1:]))


def test_a_log_is_read_by_the_major_version_that_wrote_it_alone() -> None:
    planned = plan.plan_wal(LOGGED, [BASE], SEGMENTS, newest=True)
    plan.require_reader(planned, "18.7")
    with pytest.raises(Refused, match="PostgreSQL 18 wrote that log, and 19 runs here") as caught:
        plan.require_reader(planned, "19.0")
    assert "--from-wal" in caught.value.hint


def test_a_restore_with_a_newer_database_says_plainly_what_may_disagree() -> None:
    moment = plan.plan_wal(LOGGED, [BASE], SEGMENTS, newest=False)
    assert plan.wal_lines(LOGGED, moment, newest=False) == (
        "database: base 20261123T030000Z (1.0 MiB) and 4 files of its log, until position 0/70001F4",
    )
    (_, warning) = plan.wal_lines(LOGGED, plan.plan_wal(LOGGED, [BASE], SEGMENTS, newest=True), newest=True)
    assert warning.startswith(
        "may disagree: the database is as new as its log, the repositories are of 2026-11-23 11:00:00 UTC"
    )


def test_a_backup_whose_dump_is_gone_is_whole_for_a_restore_that_makes_the_database_of_its_log() -> None:
    there = [part.remote for name, part in LOGGED.parts.items() if name != "database"]
    written = manifest.to_json(LOGGED)
    assert (
        manifest.check_backup(LOGGED.identity, written, there).broken == "database missing from the remote repository"
    )
    for requested in (RestoreRequest(from_wal=True), RestoreRequest(newest_database=True)):
        assert manifest.check_backup(LOGGED.identity, written, there, requested.needed).manifest == LOGGED
    assert manifest.check_backup(LOGGED.identity, written, [], RestoreRequest(from_wal=True).needed).manifest is None


def test_a_base_needs_room_beside_the_site_too() -> None:
    assert plan.blockers(MADE, replace(FACTS, free=2100)) == ()
    (problem,) = plan.blockers(MADE, replace(FACTS, free=2100), base=1)
    assert "are free on the data disk" in problem


@pytest.fixture(autouse=True)
def let_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(accounts, "ensure_admin", lambda site, world: asked.append(world.content()))
    return asked


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(directory=tmp_path)


def test_a_restored_site_runs_and_the_one_before_is_kept_aside(machine: Machine) -> None:
    report = machine.ops()
    assert (machine.content(), machine.running) == ("then", True)
    assert machine.turned_away == ["none", "push", "all", "none"]
    assert machine.databases == {"gitea": "then", ASIDE: "now"}
    assert (machine.paths.data / ".restore/before/git/repositories/a/b.git/content").read_text() == "now"
    assert report.facts["identity"] == MADE.identity
    machine.databases["gitea"] = "now"
    (machine.paths.live / "git/repositories/a/b.git/content").write_text("now")
    machine.ops()  # what was kept aside makes room for what is kept aside now
    assert machine.databases == {"gitea": "then", ASIDE: "now"}


def test_the_administrator_of_the_backup_s_time_may_sign_in_with_today_s_password(
    machine: Machine, let_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.ops()
    assert let_in == ["then"]

    def refuse(site: Any, world: Any) -> None:
        raise OpsError("Gitea answers 500", "")

    monkeypatch.setattr(accounts, "ensure_admin", refuse)
    with pytest.raises(Degraded, match="cannot sign in: Gitea answers 500"):
        machine.ops()
    assert (machine.content(), machine.running) == ("then", True)
    assert machine.resume().changed is False


def test_hooks_are_written_anew_and_it_is_said_when_that_fails(machine: Machine) -> None:
    machine.ops()
    assert machine.executed == [["gitea", "admin", "regenerate", "hooks"]]
    machine.hooks = 1
    for requested in ({}, {"repository": "a/b"}):
        with pytest.raises(Degraded, match="hooks could not be written anew: permission denied"):
            machine.ops(**requested)
        assert (machine.content(), machine.running) == ("then", True)


def test_data_whose_picture_is_on_the_disk_is_taken_from_it_and_the_picture_stays(machine: Machine) -> None:
    picture = machine.keep_picture()
    # Its content needs no room a second time.
    machine.room = 1500
    report = machine.ops()
    assert (machine.content(), machine.running, report.facts["picture"]) == ("then", True, True)
    assert "restore data" not in machine.deeds
    assert (picture / "git/repositories/a/b.git/content").read_text() == "then"
    assert machine.databases == {"gitea": "then", ASIDE: "now"}


def test_an_earlier_backup_of_the_same_data_is_served_by_the_picture_too(machine: Machine) -> None:
    machine.keep_picture(identity="20261123T120000Z")
    machine.ops(identity=MADE.identity)
    assert (machine.content(), "restore data" in machine.deeds) == ("then", False)


@pytest.mark.parametrize(
    ("requested", "change"),
    [
        ({"full_copy": True}, lambda machine: None),
        ({}, lambda machine: setattr(machine, "counted", ("corruption_errs 1",))),
        ({}, lambda machine: machine.paths.newest.unlink()),
        ({}, lambda machine: shutil.rmtree(machine.paths.snapshot_of(MADE.identity))),
        ({}, lambda machine: machine.paths.newest.write_bytes(manifest.to_json(replace(MADE, parts=OTHER)))),
        ({"repository": "a/b"}, lambda machine: None),
    ],
    ids=["as wished", "a disk that lies", "no note of it", "no picture", "another backup's", "one repository"],
)
def test_data_is_fetched_where_its_picture_is_not_to_be_used(
    machine: Machine, requested: dict[str, Any], change: Callable[[Machine], object]
) -> None:
    machine.keep_picture("something else")
    change(machine)
    machine.ops(**requested)
    assert "restore data" in machine.deeds
    assert "revive" not in machine.deeds
    assert (machine.paths.live / "git/repositories/a/b.git/content").read_text() == "then"


def _differs(machine: Machine) -> None:
    machine.refs = {"then": REFS, "rotten": REFS.replace("0001", "0002")}
    machine.keep_picture("rotten")


def _cannot_be_read(machine: Machine) -> None:
    machine.unreadable_content = "rotten"
    machine.keep_picture("rotten")


def _cannot_be_copied(machine: Machine) -> None:
    machine.revives_nothing = True
    machine.keep_picture()


def _rots_meanwhile(machine: Any) -> None:
    machine.keep_picture()
    looks = iter([(), ("corruption_errs 1",)])
    machine.errors = lambda folder: next(looks)


UNFIT = [
    (_differs, "repository a/b.git differs"),
    (_cannot_be_read, "the repositories cannot be listed"),
    (_cannot_be_copied, "No space left on device"),
    (_rots_meanwhile, "corruption_errs 1"),
]


@pytest.mark.parametrize(("prepare", "why"), UNFIT)
def test_a_picture_that_is_of_no_use_gives_way_to_what_is_fetched(
    machine: Machine, prepare: Callable[[Machine], None], why: str
) -> None:
    prepare(machine)
    report = machine.ops()
    assert (machine.content(), machine.running, report.facts["picture"]) == ("then", True, False)
    assert machine.deeds.index("revive") < machine.deeds.index("restore data") < machine.deeds.index("stop")
    assert [line for line in machine.told if "so all is fetched" in line and why in line]


@pytest.mark.parametrize(("prepare", "why"), UNFIT)
def test_what_there_is_no_room_for_is_not_fetched_in_the_place_of_a_picture(
    machine: Machine, prepare: Callable[[Machine], None], why: str
) -> None:
    prepare(machine)
    machine.room = 1500
    with pytest.raises(Refused, match="are free on the data disk") as refused:
        machine.ops()
    assert why in refused.value.message
    assert "restore data" not in machine.deeds
    assert (machine.content(), machine.running, machine.databases) == ("now", True, {"gitea": "now"})
    assert list((machine.paths.data / ".restore").iterdir()) == []


def test_a_database_that_is_not_what_the_manifest_says_is_no_fault_of_the_picture(machine: Machine) -> None:
    machine.keep_picture()
    machine.rows = 4
    with pytest.raises(Refused, match="table user has 4 rows of 3"):
        machine.ops()
    assert "restore data" not in machine.deeds


def test_with_a_picture_a_damaged_copy_on_the_host_costs_the_database_s_way_alone(machine: Machine) -> None:
    machine.keep_picture()
    machine.damaged = {"local"}
    machine.ops()
    assert (machine.content(), "restore data" in machine.deeds) == ("then", False)
    assert [line for line in machine.told if "the database is fetched from the bucket" in line]


def test_who_is_to_agree_reads_where_the_data_is_from(tmp_path: Path) -> None:
    now = NOON + timedelta(hours=1)
    fetched = plan.plan_restore(MADE, FACTS, RestoreRequest(), now)
    taken = plan.plan_restore(MADE, replace(FACTS, picture=tmp_path), RestoreRequest(), now)
    assert "fetched: data, 1000 bytes with 1 repositories; 2.0 KiB of database and settings" in fetched
    assert "fetched: 2.0 KiB of database and settings" in taken
    assert [line for line in taken if line.startswith("taken: data, 1000 bytes with 1 rep") and "--full-copy" in line]
    assert not [line for line in fetched if "--full-copy" in line]


def test_a_damaged_copy_on_the_host_gives_way_to_the_one_in_the_bucket(machine: Machine) -> None:
    machine.damaged = {"local"}
    machine.ops()
    assert machine.content() == "then"
    assert any("from the bucket: local: ciphertext verification failed" in line for line in machine.told)


def test_a_backup_that_is_damaged_in_both_repositories_is_not_restored_and_the_step_is_named(machine: Machine) -> None:
    machine.damaged = {"local", "remote"}
    with pytest.raises(RolledBack) as failed:
        machine.ops()
    assert "the site was not touched: fetch: remote: ciphertext verification failed" in failed.value.message
    assert (machine.content(), machine.running, machine.databases) == ("now", True, {"gitea": "now"})
    assert list((machine.paths.data / ".restore").iterdir()) == []


def test_what_a_killed_restore_had_fetched_is_removed_and_what_is_kept_aside_stays(machine: Machine) -> None:
    machine.ops()
    (machine.paths.data / ".restore/gitea/half").mkdir(parents=True)
    machine.databases[STAGED] = "half"
    assert not machine.resume().changed
    assert [each.name for each in (machine.paths.data / ".restore").iterdir()] == ["before"]
    assert machine.databases == {"gitea": "then", ASIDE: "now"}


def test_a_backup_that_is_passed_over_because_it_is_broken_is_named() -> None:
    broken = [replace(at(hours), manifest=None, broken="its manifest is cut off") for hours in (-1, 1, 2)]
    assert catalogue.passed_over([at(0), *broken], MADE) == tuple(
        f"skipped: backup 20261123T1{hour}0000Z is newer, but broken: its manifest is cut off" for hour in (2, 3)
    )
    assert len(catalogue.passed_over([at(0), *broken], MADE, at=NOON + timedelta(hours=1))) == 1
    assert catalogue.passed_over([at(0), *broken], MADE, MADE.identity) == ()


def test_a_rehearsed_restore_and_one_that_no_one_agrees_to_do_nothing(machine: Machine) -> None:
    rehearsed = machine.ops(dry_run=True)
    assert not rehearsed.changed
    assert rehearsed.facts["plan"] == list(rehearsed.lines)

    def never(name: str, lines: Sequence[str]) -> None:
        raise Refused("no one agreed")

    with pytest.raises(Refused):
        restore.restore(SITE, machine, request=RestoreRequest(), confirm=never, paths=machine.paths)  # type: ignore[arg-type]
    assert machine.deeds == []


def test_what_is_not_what_the_manifest_says_is_never_put_in_place(machine: Machine) -> None:
    machine.refs = {"then": REFS.replace("0001", "0002")}
    with pytest.raises(OpsError, match=r"repository a/b\.git differs"):
        machine.ops()
    assert (machine.content(), machine.running) == ("now", True)
    assert machine.databases == {"gitea": "now"}
    assert list((machine.paths.data / ".restore").iterdir()) == []
    assert "stop" not in machine.deeds


def test_a_dump_that_cannot_be_read_and_has_no_log_leaves_the_site_as_it_is(machine: Machine) -> None:
    machine.unreadable = True
    with pytest.raises(OpsError, match=r"is damaged\nand of its log: backup .* is from before the log was kept"):
        machine.ops()
    assert (machine.content(), machine.running) == ("now", True)
    assert "the dump cannot be used, so its moment is made of base and log" in machine.told[-1]


def test_a_restored_site_that_does_not_come_up_is_taken_back(machine: Machine) -> None:
    machine.comes_up = lambda content: content == "now"
    began = machine.clock.monotonic()
    with pytest.raises(RolledBack):
        machine.ops()
    # As long as an update may take to come up: a backup of an earlier version migrates, too.
    assert 15 * 60 < machine.clock.monotonic() - began < 16 * 60
    assert (machine.content(), machine.running) == ("now", True)
    assert machine.databases == {"gitea": "now"}
    machine.comes_up = lambda content: False
    with pytest.raises(Stranded, match="in its place again, and does not either") as stranded:
        machine.ops()
    assert "systemctl restart gitea-suite" in stranded.value.hint
    assert machine.content() == "now"


def test_a_site_that_cannot_be_put_back_is_left_to_the_next_run(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.comes_up = lambda content: content == "now"
    started = machine.start

    def refuses(project: str, service: str) -> None:
        if machine.content() == "now":
            raise OpsError("the engine does not start it")
        started(project, service)

    with monkeypatch.context() as patched:
        patched.setattr(machine, "start", refuses)
        with pytest.raises(Stranded, match="cannot be put back: the engine does not start it") as stranded:
            machine.ops()
    assert "ops restore --resume" in stranded.value.hint
    assert machine.resume().changed
    assert (machine.content(), machine.running, machine.databases["gitea"]) == ("now", True, "now")


@pytest.mark.parametrize("name", ["a/never", "a", "../b", "a/b.git"])
def test_a_repository_that_the_backup_has_not_is_refused(machine: Machine, name: str) -> None:
    with pytest.raises(Refused, match="has no repository"):
        machine.ops(repository=name)
    assert machine.deeds == []


def test_a_single_repository_needs_neither_room_for_the_whole_site_nor_its_secret_key(machine: Machine) -> None:
    machine.room = 10
    (machine.paths.secrets / "gitea-secret-key").write_text("another")
    with pytest.raises(Refused, match="are free on the data disk"):
        machine.ops()
    machine.ops(repository="a/b")
    assert (machine.paths.live / "git/repositories/a/b.git/content").read_text() == "then"


def test_a_single_repository_changes_neither_the_database_nor_whether_gitea_runs(machine: Machine) -> None:
    machine.ops(repository="A/b")
    assert (machine.paths.live / "git/repositories/a/b.git/content").read_text() == "then"
    assert machine.databases == {"gitea": "now"}
    assert "stop" not in machine.deeds
    assert not (machine.paths.data / ".restore/journal").exists()


def test_a_single_repository_comes_from_the_bucket_where_this_host_s_copy_is_damaged(machine: Machine) -> None:
    machine.damaged = {"local"}
    machine.ops(repository="a/b")
    assert (machine.paths.live / "git/repositories/a/b.git/content").read_text() == "then"
    assert any("from the bucket: local: ciphertext verification failed" in line for line in machine.told)
    machine.damaged = {"local", "remote"}
    (machine.paths.live / "git/repositories/a/b.git/content").write_text("now")
    with pytest.raises(OpsError, match="remote: ciphertext verification failed"):
        machine.ops(repository="a/b")
    assert (machine.paths.live / "git/repositories/a/b.git/content").read_text() == "now"


def test_the_secret_key_of_a_backup_is_put_where_root_alone_can_read_it_and_is_not_said(machine: Machine) -> None:
    made = restore.keep_secret_key(SITE, machine, request=RestoreRequest(), paths=machine.paths)  # type: ignore[arg-type]
    file = Path(made.facts["file"])
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("k", 0o400)
    assert file.parent == machine.paths.secrets.parent
    restore.keep_secret_key(SITE, machine, request=RestoreRequest(), paths=machine.paths)  # type: ignore[arg-type]
    machine.ini = machine.ini.replace("= k", "= another")
    with pytest.raises(OpsError, match="has not the SECRET_KEY that its manifest tells of"):
        restore.keep_secret_key(SITE, machine, request=RestoreRequest(), paths=machine.paths)  # type: ignore[arg-type]
    assert machine.deeds == []


@pytest.mark.parametrize("ini", ["", "[security]\n", "[security]\nSECRET_KEY =\n"])
def test_an_app_ini_without_a_secret_key_is_said(ini: str) -> None:
    with pytest.raises(OpsError, match="has no SECRET_KEY"):
        restore.secret_key_from(ini)


def test_a_secret_key_is_read_as_gitea_writes_it() -> None:
    assert restore.secret_key_from("A = b % c\n[security]\nSECRET_KEY = `a=b;c#%d`\n").reveal() == "a=b;c#%d"
