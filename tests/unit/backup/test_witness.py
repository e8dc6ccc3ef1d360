"""The repositories are counted a second way, which shares no code with git's listing."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.backup import contents, manifest, status, take, witness
from ops.backup.manifest import Backup
from ops.backup.repositories import REPOSITORIES
from ops.backup.witness import Folder
from ops.restore import drill
from ops.wal import base_backups
from tests.support import fakes
from tests.support.fake_host import FakeHost

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
THIRTEEN = [f"team/{number:02}.git" for number in range(13)]


def listing(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "0" * 64)


def folder(name: str, owner: int = witness.OWNER, changed: float = 0.0) -> Folder:
    return Folder(name, owner, changed)


class Answers:
    """A session that answers with the columns of a table and keeps the statements."""

    def __init__(self, *columns: str) -> None:
        self.columns, self.asked = columns, list[str]()

    def ask(self, statement: str) -> list[list[str]]:
        self.asked.append(statement)
        # A row without an owner has no name.
        return [[each] for each in self.columns] if "information_schema" in statement else [["a/b.git"], [""]]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    # The base backup of the database has tests of its own.
    monkeypatch.setattr(base_backups, "refresh", lambda *_: None)
    return FakeHost(directory=tmp_path)


def taken(machine: FakeHost) -> Any:
    machine.clock.sleep(60)
    world: Any = machine
    return take.take(machine.site(), world, paths=machine.paths)


def newest(machine: FakeHost) -> manifest.Manifest:
    return manifest.from_json(machine.bucket[max(each for each in machine.bucket if each.startswith("manifests/"))])


def test_a_backup_with_fewer_repositories_than_the_table_names_those_that_are_missing(machine: FakeHost) -> None:
    machine.table = ("a/b.git", "a/lost.git")
    report = taken(machine)
    assert report.exit_code == 3
    (line,) = [each for each in report.lines if "missing from backup" in each]
    assert "repository a/lost.git" in line
    assert list(newest(machine).missing or ()) == ["a/lost.git"]


def test_a_backup_with_fewer_repositories_than_folders_names_those_that_are_missing(machine: FakeHost) -> None:
    (machine.paths.live / REPOSITORIES / "a/on-disk.git/refs").mkdir(parents=True)
    (machine.paths.live / REPOSITORIES / "a/not-a-repository").mkdir()
    report = taken(machine)
    assert report.exit_code == 3
    assert list(newest(machine).missing or ()) == ["a/on-disk.git"]


def test_a_backup_with_every_repository_of_the_table_is_whole(machine: FakeHost) -> None:
    machine.table = ("a/b.git",)
    assert taken(machine).exit_code == 0
    assert newest(machine).missing == []


@pytest.mark.parametrize(
    ("columns", "condition"),
    [
        (("owner_name", "lower_name", "is_empty", "status"), "WHERE is_empty IS NOT TRUE AND status NOT IN (1, 3)"),
        (("owner_name", "lower_name", "is_empty"), "WHERE is_empty IS NOT TRUE"),
        (("owner_name", "lower_name"), "WHERE true"),
    ],
)
def test_rows_without_code_are_not_expected(columns: tuple[str, ...], condition: str) -> None:
    session: Any = Answers(*columns)
    assert witness.expected(session) == {"a/b.git"}
    assert session.asked[-1].endswith(condition)


def test_a_table_without_names_expects_nothing() -> None:
    session: Any = Answers("id", "status")
    assert witness.expected(session) == frozenset()


def test_many_missing_repositories_are_counted() -> None:
    lines = witness.missing_lines([f"a/{number}.git" for number in range(30)], "x")
    assert len(lines) == 21
    assert lines[-1].startswith("10 more repositories")
    assert len(witness.missing_lines([f"a/{number}.git" for number in range(20)], "x")) == 20


@pytest.mark.parametrize(
    ("before", "now", "rows", "reported"),
    [
        (THIRTEEN, THIRTEEN[:6], (13, 13), (True, True)),
        (THIRTEEN, THIRTEEN[:6], (13, 6), (True, False)),
        (THIRTEEN, THIRTEEN[:11], (13, 13), (False, False)),
        (THIRTEEN, THIRTEEN[:10], (13, 13), (True, True)),
        ([f"a/{number}.git" for number in range(100)], [f"a/{number}.git" for number in range(90)], (100, 100), (False,) * 2),
        ([f"a/{number}.git" for number in range(100)], [f"a/{number}.git" for number in range(89)], (100, 100), (True,) * 2),
        (THIRTEEN[:6], THIRTEEN, (6, 13), (False, False)),
    ],
    ids=["silent loss", "deleted", "two", "three", "a tenth", "more than a tenth", "more than before"],
)  # fmt: skip
def test_a_drop_against_the_backup_before_is_reported(
    before: list[str], now: list[str], rows: tuple[int, int], reported: tuple[bool, bool]
) -> None:
    earlier = fakes.made(NOW, repositories=listing(*before), rows={"repository": rows[0]}, missing=())
    later = fakes.made(NOW + timedelta(hours=1), repositories=listing(*now), rows={"repository": rows[1]}, missing=())
    found = [bool(witness.check_manifest(later, earlier, explained=each)) for each in (False, True)]
    assert tuple(found) == reported


def test_a_manifest_without_a_count_of_rows_explains_no_drop() -> None:
    earlier = fakes.made(NOW, repositories=listing(*THIRTEEN), rows={}, missing=())
    later = fakes.made(NOW + timedelta(hours=1), repositories=listing(*THIRTEEN[:10]), rows={}, missing=())
    assert witness.check_manifest(later, earlier) == witness.check_manifest(later, earlier, explained=True) != ()
    assert witness.check_manifest(later, replace(earlier, rows={"repository": 1}), explained=True) == ()
    assert witness.check_manifest(later, replace(earlier, rows={"repository": 1})) != ()
    old = fakes.made(NOW, repositories={}, rows={})
    assert witness.check_manifest(old, None) == ()


def test_an_old_manifest_with_fewer_repositories_than_rows_is_reported() -> None:
    old = fakes.made(NOW, repositories=listing("a/1.git", "a/2.git", "a/1.wiki.git"), rows={"repository": 3})
    assert old.missing is None
    (line,) = witness.check_manifest(old, None)
    assert line.endswith("has 2 repositories, and its database 3")
    assert witness.check_manifest(replace(old, rows={"repository": 2}), None) == ()


def test_a_manifest_keeps_its_missing_repositories_and_links() -> None:
    made = fakes.made(NOW, missing=("a/b.git",), links=("x -> /y",))
    read = manifest.from_json(manifest.to_json(made))
    assert (read.missing, read.links) == (["a/b.git"], ["x -> /y"])
    assert b"missing" not in manifest.to_json(fakes.made(NOW))


def test_the_status_is_red_when_the_newest_backup_misses_repositories() -> None:
    def probe(made: manifest.Manifest, *folders: Folder, before: manifest.Manifest | None = None) -> Any:
        backups = tuple(Backup(each.identity, each) for each in (before, made) if each)
        facts = status.BackupInventory(backups, set(), True, (), (), folders=folders)
        (found,) = [each for each in status.check(fakes.site(), facts, NOW) if each.name == "repositories"]
        return found

    long_ago, later = NOW.timestamp() - 3600, NOW.timestamp() + 60
    whole = fakes.made(NOW, repositories=listing(*THIRTEEN), missing=())
    assert probe(whole, *(folder(each, changed=long_ago) for each in THIRTEEN)).healthy
    assert probe(whole, folder("a/new.git", changed=later)).healthy
    assert "a/old.git" in probe(whole, folder("a/old.git", changed=long_ago)).seen
    assert "a/lost.git is missing" in probe(replace(whole, missing=("a/lost.git",))).seen
    half = fakes.made(NOW, repositories=listing(*THIRTEEN[:6]), missing=())
    assert "had 13" in probe(half, before=replace(whole, identity="earlier", moment=NOW - timedelta(hours=1))).seen


def test_folders_are_read_without_git(tmp_path: Path) -> None:
    for name in ("a/b.git", "a/b.wiki.git", "c/d.git/refs", "c/notes"):
        (tmp_path / REPOSITORIES / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / REPOSITORIES / "e").symlink_to(tmp_path / REPOSITORIES / "a")
    assert [each.name for each in witness.folders(tmp_path)] == ["a/b.git", "a/b.wiki.git", "c/d.git"]
    assert witness.folders(tmp_path / "missing") == ()


@pytest.mark.parametrize("name", ["b.git", "HEAD", "config", "refs", "objects", "packed-refs"])
def test_a_repository_belongs_to_the_user_of_any_file_that_git_reads_refs_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = tmp_path / REPOSITORIES / "a/b.git"
    made.mkdir(parents=True)
    for each in ("HEAD", "config", "refs", "objects", "packed-refs", "description"):
        (made / each).touch()
    foreign = made if name == "b.git" else made / name
    lstat = Path.lstat

    def owned(path: Path) -> Any:
        return SimpleNamespace(st_uid=7 if path == foreign else witness.OWNER, st_ctime=lstat(path).st_ctime)

    monkeypatch.setattr(Path, "lstat", owned)
    assert [each.owner for each in witness.folders(tmp_path)] == [7]
    foreign = made / "description"
    assert [each.owner for each in witness.folders(tmp_path)] == [witness.OWNER]


def test_a_name_outside_of_utf_8_is_printed_with_escapes() -> None:
    assert witness.printable(os.fsdecode(b"a\xff/\xc3\xa4.git")) == "a\\xff/ä.git"


def test_a_folder_with_a_file_of_another_user_belongs_to_that_user(tmp_path: Path) -> None:
    lines = witness.owner_lines([folder("a/b.git"), folder("a/root.git", owner=0)], tmp_path)
    (line,) = lines
    assert "repository a/root.git belongs to user 0" in line
    assert line.endswith(f"run chown --recursive 1000:1000 {tmp_path}/git/repositories/a/root.git")


def test_many_repositories_of_another_user_are_counted(tmp_path: Path) -> None:
    lines = witness.owner_lines([folder(f"a/{number}.git", owner=0) for number in range(25)], tmp_path)
    assert len(lines) == 21
    assert lines[-1].startswith("5 more repositories belong to another user")


def test_a_backup_reports_a_repository_that_gitea_cannot_write_to(machine: FakeHost) -> None:
    (machine.paths.live / REPOSITORIES / "a/b.git/refs").mkdir(parents=True)
    other = machine.paths.live.stat().st_uid
    report = taken(machine)
    assert [f"belongs to user {other}" in each for each in report.lines] == ([True] if other != witness.OWNER else [])


def test_a_drill_names_repositories_that_the_listing_lost(tmp_path: Path) -> None:
    machine = FakeHost(directory=tmp_path)
    machine.table = ("a/b.git", "a/lost.git")
    scratch = tmp_path / "scratch"
    (scratch / "gitea" / REPOSITORIES / "a/on-disk.git").mkdir(parents=True)
    (scratch / "gitea/writes").write_text("")
    machine.scratch = machine.paths.data / "postgresql"
    world: Any = machine
    chosen = fakes.made(NOW, rows={}, repositories=contents.refs_from("= a/b.git\n"))
    machine.name = lambda project, service: service  # type: ignore[method-assign]
    found = drill._differences(world, machine.paths, chosen, scratch)
    names = [each.split()[1] for each in found]
    assert names == ["a/lost.git", "a/on-disk.git"]
