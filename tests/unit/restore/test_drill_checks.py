"""What a drill finds fault with: lost data, and not how a repository was pushed. On real ones: tests/integration/test_drill_checks.py."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ops.backup import catalogue, records
from ops.backup.records import Drill
from ops.backup.repositories import Repositories
from ops.config.paths import HostPaths
from ops.restore import drill, drill_checks
from ops.restore.drill_checks import Checked
from ops.world.containers import Ran, Service
from tests.support import fakes

SITE = fakes.site()
NOW = datetime(2026, 11, 23, 5, 30, tzinfo=UTC)
OLD = "git fsck of a/old.git: missing blob 0001"
NEW = "git fsck of a/new.git: missing blob 0002"
BROKEN = "table user has 2 rows of 3"
CHECKED = {"fetch": 1.0, "check": 1.0, "use": 1.0}


@pytest.mark.parametrize(
    ("output", "result"),
    [
        ("", Checked()),
        (
            "= 1 a/b.git\nformat badTimezone\nformat zeroPaddedFilemode\nmore -3\n",
            Checked(
                notes=("git fsck of a/b.git: badTimezone, zeroPaddedFilemode; the objects are as they were pushed",)
            ),
        ),
        (
            "= 3 a/b.git\nformat badTimezone\nother broken link from tree 01\nother missing blob 02\nmore -1\n",
            Checked(("git fsck of a/b.git: broken link from tree 01; missing blob 02",)),
        ),
        (
            "= 2 a/b.git\nother a\nother b\nother c\nmore 4\n= 1 c/d.git\nformat badEmail\nmore -3\n",
            Checked(
                ("git fsck of a/b.git: a; b; c; 4 more lines",),
                ("git fsck of c/d.git: badEmail; the objects are as they were pushed",),
            ),
        ),
        ("= 1 a/b.git\nother error: sha1 mismatch 01\nmore -2\n", Checked(("git fsck of a/b.git: error: sha1 mismatch 01",))),
        # A bit of the exit code that no line explains, and a git that was killed.
        ("= 5 a/b.git\nformat badEmail\nmore -3\n", Checked(("git fsck of a/b.git: exit code 5",))),
        ("= 137 a/b.git\nmore -3\n", Checked(("git fsck of a/b.git: exit code 137",))),
    ],
)  # fmt: skip
def test_an_object_s_format_is_a_note_and_everything_else_a_finding(output: str, result: Checked) -> None:
    assert drill_checks.fsck_result(output, {"a/b.git", "c/d.git"}) == result


def test_a_folder_that_is_no_repository_of_the_database_loses_nothing_of_gitea() -> None:
    output = "".join(
        f"= 128 a/{name}.git\nother fatal: not a git repository\nmore -2\n" for name in ("x", "b.wiki", "c.wiki")
    )
    checked = drill_checks.fsck_result(output, {"a/b.git"})
    assert checked.findings == ("git fsck of a/b.wiki.git: fatal: not a git repository",)
    assert [note.split(":")[0] for note in checked.notes] == ["git fsck of a/x.git", "git fsck of a/c.wiki.git"]


def test_folders_without_a_row_are_a_note_and_rows_without_a_folder_a_finding() -> None:
    rows = {"a/b.git": True, "a/lost.git": True, "a/being-made.git": False, "off/x.git": False}
    stored = ["a/b.git", "a/b.wiki.git", "a/unadopted.git", "off/x.git"]
    assert drill_checks.compare_rows(rows, stored) == Checked(
        ("repository a/lost.git is in the database and not in the data",),
        ("folders without a repository in Gitea (unadopted): a/unadopted.git",),
    )
    assert drill_checks.compare_rows({"a/b.git": True}, ["a/b.git", "a/b.wiki.git"]) == Checked()


@pytest.mark.parametrize(
    ("finding", "acceptable"),
    [
        (OLD, True),
        ("a/b.git cannot be cloned: fatal: early EOF", True),
        ("keeper cannot sign in: 401", True),
        ("repository a/b.git is in the database and not in the data", True),
        ("repository a/b.git differs", False),
        (BROKEN, False),
        ("fetch: ciphertext verification failed", False),
        ("gitea: not healthy 300 s after the restart", False),
    ],
)
def test_only_findings_about_single_repositories_and_use_can_be_accepted(finding: str, acceptable: bool) -> None:
    assert records.is_acceptable(finding) is acceptable


def result(*findings: str, durations: dict[str, float] | None = None) -> Drill:
    return Drill(NOW, "20261123T110000Z", 41.2, 540.0, findings, CHECKED if durations is None else durations)


def test_a_finding_fails_the_drill_until_it_is_accepted_and_does_not_fail_it_again() -> None:
    first = drill.settle(result(OLD), [], every=False)
    assert (first.passed, first.accepted) == (False, ())
    accepted = drill.settle(result(OLD), [], every=True)
    assert (accepted.passed, accepted.accepted) == (True, (OLD,))
    later = drill.settle(result(OLD, NEW), accepted.accepted, every=False)
    assert (later.findings, later.accepted) == ((NEW,), (OLD,))


def test_a_backup_that_cannot_be_restored_cannot_be_accepted() -> None:
    settled = drill.settle(result(BROKEN, OLD), [], every=True)
    assert (settled.findings, settled.accepted) == ((BROKEN,), (OLD,))


def test_an_accepted_finding_is_forgotten_when_it_is_gone_but_not_by_a_drill_that_did_not_look() -> None:
    assert drill.settle(result(), [OLD], every=False).accepted == ()
    early = drill.settle(result(BROKEN, durations={"fetch": 1.0}), [OLD], every=False)
    assert early.accepted == (OLD,)


def test_the_bucket_keeps_what_was_accepted_and_reads_records_of_before() -> None:
    made = drill.settle(result(OLD), [], every=True)
    assert records.drill_from_json(records.to_json(made)) == made
    old = records.to_json(result())
    assert b"accepted" not in old
    assert b"notes" not in old
    assert records.drill_from_json(old) == result()


def test_a_report_names_accepted_findings_and_notes_and_how_to_accept_the_others() -> None:
    report = drill.report_of(Drill(NOW, "x", 1.0, 1.0, (NEW,), CHECKED, (OLD,), ("a note",)), SITE)
    assert report.exit_code == 3
    assert report.lines == (
        NEW,
        f"accepted: {OLD}",
        "note: a note",
        "if this finding is known and no loss: ops restore --drill --accept",
    )
    passed = drill.report_of(Drill(NOW, "x", 1.0, 1.0, (), CHECKED, (OLD,)), SITE)
    assert (passed.exit_code, passed.lines) == (0, (f"accepted: {OLD}",))
    assert not [line for line in drill.report_of(result(BROKEN), SITE).lines if "--accept" in line]


class Scratch(fakes.FakeWorld):
    """A scratch site whose database has a served repository, one of a deactivated owner, and one that is not in the backup."""

    def __init__(self, fsck: str = "") -> None:
        super().__init__()
        self.fsck, self.loaded = fsck, list[Sequence[str]]()
        self.processes = fakes.FakeProcesses()
        self.containers: Any = self
        self.postgres: Any = self

    def services(self, project: str) -> list[Service]:
        return [Service("gitea", "gitea", "running", "healthy", 0), Service("postgres", "p", "running", "healthy", 0)]

    def name(self, project: str, service: str) -> str:
        assert project == "gitea-drill"
        return f"{project}-{service}-1"

    def session(self, container: str) -> Any:
        return nullcontext(self)

    def ask(self, statement: str) -> list[list[str]]:
        if "information_schema" in statement:
            return [["user", "is_active"]]
        return [["a/b.git", "t"], ["off/x.git", "f"], ["a/since.git", "t"]]

    def run_script(self, image: str, script: str, **_: Any) -> Ran:
        assert script == drill_checks.FSCK
        return Ran(0, self.fsck)

    def dump_into(self, snapshot: str, filename: str, argv: Sequence[str], on_line: Any) -> None:
        self.loaded.append(argv)
        on_line("left out: GRANT SELECT ON TABLE public.issue TO metrics_ro;")


BACKUP = fakes.made(NOW, repositories=dict.fromkeys(("a/b.git", "off/x.git", "a/unadopted.git"), "0"))


def test_a_drill_clones_what_gitea_serves_of_the_backup() -> None:
    world: Any = Scratch()
    assert drill._served(world, BACKUP) == ["a/b.git"]


def test_a_drill_checks_rows_folders_and_objects(tmp_path: Path) -> None:
    world: Any = Scratch("= 1 a/b.git\nformat badTimezone\nmore -3\n= 2 a/b.git\nother missing blob 01\nmore -2\n")
    checked = drill._check_repositories(world, HostPaths(data=tmp_path), BACKUP, tmp_path)
    assert checked.findings == (
        "repository a/since.git is in the database and not in the data",
        "git fsck of a/b.git: missing blob 01",
    )
    assert [note.split(":")[0] for note in checked.notes] == [
        "folders without a repository in Gitea (unadopted)",
        "git fsck of a/b.git",
    ]


def test_a_drill_loads_the_dump_without_rights_and_notes_them(tmp_path: Path) -> None:
    world: Any = Scratch()
    both: Any = Repositories(world, world)
    notes = drill._database(world, both, BACKUP, tmp_path, ["docker", "compose"])
    assert {"--no-owner", "--no-acl"} <= set(world.loaded[0])
    assert "not restored: GRANT SELECT ON TABLE public.issue TO metrics_ro;" in notes


def test_a_drill_carries_accepted_findings_from_the_last_record_in_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world: Any = fakes.FakeWorld(clock=fakes.FakeClock(NOW))
    world.restic = lambda *_, **__: None
    monkeypatch.setattr(catalogue, "list_backups", lambda *_: [])
    monkeypatch.setattr(catalogue, "choose", lambda _: fakes.made(NOW))
    monkeypatch.setattr(drill, "_run_drill", lambda *_: result(OLD))
    paths = HostPaths(data=tmp_path, lock=tmp_path / "lock")
    assert drill.drill(SITE, world, paths=paths).exit_code == 3
    assert drill.drill(SITE, world, paths=paths, accept=True).exit_code == 0
    world.clock.sleep(60)
    assert drill.drill(SITE, world, paths=paths).exit_code == 0
    # The record that blocks updates is the last one.
    assert records.check_drills(catalogue.drills(SITE, world), 7, NOW, NOW) == ""
