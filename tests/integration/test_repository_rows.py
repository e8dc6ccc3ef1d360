"""Rows of branches, tags and releases follow a restored repository, on a real server with Gitea's tables and a real git."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from ops.config.paths import HostPaths
from ops.errors import Degraded
from ops.model import Secret
from ops.restore import repository_rows
from ops.stack import accounts
from ops.world import postgres
from ops.world.containers import Ran, Service
from ops.world.https import Answer
from tests.support import fakes
from tests.support.gitea_contract import Bench, Postgres

# The columns of Gitea 1.22.6, 1.26.4 and 1.27.0, with their NOT NULL, as recorded from them.
TABLES = """
CREATE TABLE "user" (id bigserial PRIMARY KEY, lower_name varchar NOT NULL);
CREATE TABLE repository (id bigserial PRIMARY KEY, owner_id bigint, lower_name varchar NOT NULL, default_branch varchar,
    is_empty boolean);
CREATE TABLE branch (id bigserial PRIMARY KEY, repo_id bigint, name varchar NOT NULL, commit_id varchar, commit_message text,
    pusher_id bigint, is_deleted boolean, deleted_by_id bigint, deleted_unix bigint, commit_time bigint, created_unix bigint,
    updated_unix bigint, UNIQUE (repo_id, name));
CREATE TABLE release (id bigserial PRIMARY KEY, repo_id bigint, publisher_id bigint, tag_name varchar, original_author varchar,
    original_author_id bigint, lower_tag_name varchar, target varchar, title varchar, sha1 varchar, num_commits bigint,
    note text, is_draft boolean NOT NULL DEFAULT false, is_prerelease boolean NOT NULL DEFAULT false,
    is_tag boolean NOT NULL DEFAULT false, created_unix bigint, UNIQUE (repo_id, tag_name));
INSERT INTO "user" (lower_name) VALUES ('keeper');
INSERT INTO repository (owner_id, lower_name, default_branch, is_empty) VALUES (1, 'br', 'gone', false), (1, 'other', 'x', false);
INSERT INTO branch (repo_id, name, commit_id) VALUES (1, 'gone', 'aa'), (1, 'main', 'bb'), (2, 'main', 'cc');
INSERT INTO release (repo_id, tag_name, lower_tag_name, sha1, title, is_tag)
    VALUES (1, 'since', 'since', 'aa', '', true), (1, 'v2', 'v2', 'aa', 'Two', false), (1, 'v1', 'v1', 'aa', 'One', false),
        (2, 'v1', 'v1', 'aa', 'Of another', false);
"""


class OneHost(fakes.FakeWorld):
    """Gitea's data in a folder, its database in a server; its API lists what ``branch`` has, read from git again if empty."""

    def __init__(self, server: Postgres, database: str, folder: Path) -> None:
        super().__init__()
        self.server, self.database = server, database
        self.paths = HostPaths(data=folder)
        self.containers: Any = self
        self.https: Any = self
        self.postgres: Any = self

    def services(self, project: str) -> list[Service]:
        return [Service("gitea", "gitea", "running", "healthy", 0)]

    def name(self, project: str, service: str) -> str:
        return self.server.host

    def session(self, container: str) -> Any:
        return postgres.Postgres().session(container, self.database)

    def run_script(self, image: str, script: str, *, folder: Path, target: str, user: str) -> Ran:
        script = script.replace('"/data/$repository"', f'"{folder}/$repository"')
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        return Ran(done.returncode, done.stdout or done.stderr)

    def request(self, domain: str, address: str, method: str, path: str, headers: Any) -> Answer:
        """Answer as Gitea since 1.21 does: it reads git when it counts no branch."""
        sql = self.server.sql
        if sql(self.database, "SELECT count(*) FROM branch WHERE repo_id = 1") == "0":
            for line in git(
                self.paths.live, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads"
            ).split("\n"):
                name, _, commit = line.partition(" ")
                sql(self.database, f"INSERT INTO branch (repo_id, name, commit_id) VALUES (1, '{name}', '{commit}')")
        rows = sql(
            self.database,
            "SELECT json_agg(json_build_object('name', name, 'commit', json_build_object('id', commit_id))) FROM branch WHERE repo_id = 1",
        )
        # Without a row there is no list, as from Gitea.
        return Answer(200, body=rows.encode() or b"null")


def git(live: Path, *words: str) -> str:
    folder = live / "git/repositories/keeper/br.git"
    names = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = {"PATH": "/usr/bin:/bin", "HOME": str(live)}
    done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True, env=names | path)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def server(bench: Bench, postgres_image: str) -> Postgres:
    """A server."""
    return Postgres.on(bench, postgres_image, "rows")


@pytest.fixture
def host(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneHost:
    """A site of which the repository keeper/br was just restored: main and old, tags v1 and an annotated one."""
    monkeypatch.setattr(accounts, "token", lambda site, world: nullcontext(Secret("t")))
    database = server.create()
    server.sql(database, TABLES)
    host = OneHost(server, database, tmp_path)
    (host.paths.live / "git/repositories/keeper/br.git").mkdir(parents=True)
    git(host.paths.live, "init", "-q", "--bare", "-b", "main")
    tree = git(host.paths.live, "hash-object", "-t", "tree", "-w", "/dev/null")
    first = git(host.paths.live, "commit-tree", "-m", "one", tree)
    second = git(host.paths.live, "commit-tree", "-m", "two", "-p", first, tree)
    git(host.paths.live, "update-ref", "refs/heads/main", second)
    git(host.paths.live, "update-ref", "refs/heads/old", first)
    git(host.paths.live, "tag", "v1", first)
    git(host.paths.live, "tag", "-a", "-m", "it's one", "it's-annotated", second)
    return host


def test_branches_tags_and_releases_agree_with_the_restored_git(host: OneHost) -> None:
    world: Any = host
    lines = repository_rows.align(fakes.site(), world, host.paths, "keeper/br")
    first, second = (git(host.paths.live, "rev-parse", name) for name in ("old", "main"))
    sql = host.server.sql
    branches = sql(host.database, "SELECT name, commit_id FROM branch WHERE repo_id = 1 ORDER BY name").split()
    assert branches == [f"main|{second}", f"old|{first}"]
    rows = "SELECT tag_name, sha1, num_commits, is_tag, is_draft FROM release WHERE repo_id = 1 ORDER BY tag_name"
    assert sql(host.database, rows).splitlines() == [
        f"it's-annotated|{second}|2|t|f",
        f"v1|{first}|1|f|f",
        "v2||0|f|t",
    ]
    assert sql(host.database, "SELECT default_branch FROM repository WHERE id = 1") == "main"
    # Another repository is left alone.
    assert sql(host.database, "SELECT name FROM branch WHERE repo_id = 2") == "main"
    assert sql(host.database, "SELECT is_draft, sha1 FROM release WHERE repo_id = 2") == "f|aa"
    assert lines == (
        "tags in the database: 1 added, 1 moved, 1 deleted",
        "releases that are drafts now, because their tags are not in the backup: v2",
        "the default branch is main: gone is not in the backup",
    )
    assert repository_rows.align(fakes.site(), world, host.paths, "keeper/br") == ()


def test_a_statement_that_fails_changes_no_row(host: OneHost) -> None:
    world: Any = host
    host.server.sql(host.database, "ALTER TABLE release ADD CHECK (tag_name NOT LIKE 'it%')")
    with pytest.raises(Degraded, match="violates check constraint"):
        repository_rows.align(fakes.site(), world, host.paths, "keeper/br")
    assert host.server.sql(host.database, "SELECT count(*) FROM branch WHERE repo_id = 1") == "2"
    assert host.server.sql(host.database, "SELECT count(*) FROM release WHERE repo_id = 1") == "3"


def test_a_repository_without_git_is_reported(host: OneHost) -> None:
    world: Any = host
    shutil.rmtree(host.paths.live / "git/repositories/keeper/br.git")
    with pytest.raises(Degraded, match="git cannot read keeper/br"):
        repository_rows.align(fakes.site(), world, host.paths, "keeper/br")
