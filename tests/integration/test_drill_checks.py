"""What a drill checks, on a real server with Gitea's tables and with a real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ground.image_set import ImageSet
from ops.backup import records
from ops.restore import drill_checks
from ops.restore.drill_checks import Checked
from ops.world import postgres
from tests.support.gitea_contract import Bench, Postgres

# The columns of Gitea 1.22.6 to 1.27.0 that decide, as recorded from them.
TABLES = """
CREATE TABLE "user" (id bigserial PRIMARY KEY, lower_name varchar NOT NULL, type integer, is_active boolean);
CREATE TABLE repository (id bigserial PRIMARY KEY, owner_id bigint, lower_name varchar NOT NULL, is_empty boolean,
    status integer NOT NULL DEFAULT 0);
CREATE TABLE repo_unit (id bigserial PRIMARY KEY, repo_id bigint, type integer);
INSERT INTO "user" (lower_name, type, is_active) VALUES ('keeper', 0, true), ('left', 0, false), ('org', 1, false);
INSERT INTO repository (owner_id, lower_name, is_empty, status) VALUES
    (1, 'whole', false, 0), (1, 'empty', true, 0), (1, 'no-code', false, 0), (1, 'being-made', false, 1), (2, 'off', false, 0),
    (3, 'of-an-organization', false, 0);
INSERT INTO repo_unit (repo_id, type) SELECT id, 1 FROM repository WHERE lower_name <> 'no-code';
INSERT INTO repo_unit (repo_id, type) SELECT id, 2 FROM repository;
"""
# The columns that the stand-in for Gitea has.
FEWER = """
CREATE TABLE "user" (id bigserial PRIMARY KEY, lower_name varchar NOT NULL, is_active boolean);
CREATE TABLE repository (id bigserial PRIMARY KEY, owner_id bigint, lower_name varchar NOT NULL, is_empty boolean);
INSERT INTO "user" (lower_name, is_active) VALUES ('keeper', true), ('left', false);
INSERT INTO repository (owner_id, lower_name, is_empty) VALUES (1, 'whole', false), (1, 'empty', true), (2, 'off', false);
"""


@pytest.fixture(scope="module")
def server(bench: Bench, postgres_image: str, built: ImageSet) -> Postgres:
    """A server."""
    assert built
    return Postgres.on(bench, postgres_image, "checks")


@pytest.mark.parametrize(
    ("tables", "served"),
    [(TABLES, {"keeper/whole.git", "org/of-an-organization.git"}), (FEWER, {"keeper/whole.git"})],
    ids=["of Gitea", "of a version with fewer columns"],
)
def test_only_repositories_that_gitea_serves_are_cloned(server: Postgres, tables: str, served: set[str]) -> None:
    database = server.create()
    server.sql(database, tables)
    with postgres.Postgres().session(server.host, database) as session:
        rows = drill_checks.repository_rows(session)
    assert {name for name, is_served in rows.items() if is_served} == served
    assert {"keeper/empty.git", "left/off.git"} <= set(rows)


ODD_TIME = """tree {tree}
author T <t@t> 1700000000 +51800
committer T <t@t> 1700000000 +51800

odd
"""


ROWS = {f"a/{name}.git" for name in ("sound", "empty", "odd", "changed", "other", "empty-folder")}


class Data:
    """Gitea's data in a folder, with bare repositories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repositories = folder / "git/repositories"

    def git(self, name: str, *words: str, text: str = "") -> str:
        who = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        argv = ["git", "-C", str(self.repositories / name), *words]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)} | who
        done = subprocess.run(argv, capture_output=True, text=True, check=True, input=text, env=environment)
        return done.stdout.strip()

    def make(self, name: str) -> str:
        """Make a repository with a commit of a file; return the file's object."""
        (self.repositories / name).mkdir(parents=True)
        self.git(name, "init", "-q", "--bare", "-b", "main")
        blob = self.git(name, "hash-object", "-w", "--stdin", text=f"of {name}")
        tree = self.git(name, "mktree", text=f"100644 blob {blob}\tfile\n")
        self.git(name, "update-ref", "refs/heads/main", self.git(name, "commit-tree", "-m", "one", tree))
        return blob

    def push_odd_time(self, name: str) -> None:
        """Add a commit with a time zone that Gitea takes and git fsck does not."""
        tree = self.git(name, "rev-parse", "main^{tree}")
        odd = self.git(
            name, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", text=ODD_TIME.format(tree=tree)
        )
        self.git(name, "update-ref", "refs/heads/odd", odd)

    def object_file(self, name: str, identity: str) -> Path:
        return self.repositories / name / "objects" / identity[:2] / identity[2:]

    def checked(self) -> Checked:
        script = drill_checks.FSCK.replace("/tmp/", f"{self.folder}/").replace("/data/", f"{self.folder}/")
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        return drill_checks.fsck_result(done.stdout, ROWS)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def test_sound_and_empty_repositories_give_neither_findings_nor_notes(data: Data) -> None:
    data.make("a/sound.git")
    (data.repositories / "a/empty.git").mkdir()
    data.git("a/empty.git", "init", "-q", "--bare")
    assert data.checked() == Checked()


def test_an_object_that_was_pushed_with_an_odd_format_is_a_note(data: Data) -> None:
    data.make("a/odd.git")
    data.push_odd_time("a/odd.git")
    assert data.checked() == Checked(notes=("git fsck of a/odd.git: badTimezone; the objects are as they were pushed",))


def test_a_lost_object_is_a_finding_also_beside_an_odd_format(data: Data) -> None:
    blob = data.make("a/odd.git")
    data.push_odd_time("a/odd.git")
    data.object_file("a/odd.git", blob).unlink()
    (finding,) = data.checked().findings
    assert finding.startswith("git fsck of a/odd.git: ")
    assert f"missing blob {blob}" in finding
    assert records.is_acceptable(finding)
    # It reads the same again: an accepted finding is known by its text.
    assert data.checked().findings == (finding,)


def test_a_changed_object_is_a_finding(data: Data) -> None:
    blob, other = data.make("a/changed.git"), data.make("a/other.git")
    file = data.object_file("a/changed.git", blob)
    file.chmod(0o644)
    file.write_bytes(data.object_file("a/other.git", other).read_bytes())
    (finding,) = data.checked().findings
    assert finding.startswith("git fsck of a/changed.git: ")


def test_a_folder_that_is_no_repository_is_a_finding(data: Data) -> None:
    (data.repositories / "a/empty-folder.git").mkdir(parents=True)
    (finding,) = data.checked().findings
    assert finding.startswith("git fsck of a/empty-folder.git: fatal")
