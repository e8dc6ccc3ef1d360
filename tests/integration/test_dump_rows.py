"""The rows of a stored dump, read by the real pg_restore from a dump of the real server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ground.image_set import ImageSet
from ops.backup import contents, dump_rows
from ops.backup.dump_rows import DumpRows
from ops.world import postgres
from ops.world.process import Finished, Processes
from tests.integration.test_drill_checks import FEWER, TABLES
from tests.support.gitea_contract import Bench, Postgres

# Rows that look like other lines of the text, an empty table, and a table that Gitea does not have.
ODD = r"""
CREATE TABLE comment (id bigserial PRIMARY KEY, content text);
INSERT INTO comment (content) VALUES (E'two\nlines'), (E'a\ttab'), ('\.'), ('COPY public."user" (id) FROM stdin;'), ('= user 9'),
    (NULL), (repeat('x', 2000000)), (E'\\');
CREATE TABLE milestone (id bigserial PRIMARY KEY);
CREATE TABLE foreign_one (id int);
INSERT INTO foreign_one VALUES (1);
CREATE SCHEMA other;
CREATE TABLE other.comment (id int);
INSERT INTO other.comment VALUES (1), (2), (3);
"""


@pytest.fixture(scope="module")
def server(bench: Bench, postgres_image: str, built: ImageSet) -> Postgres:
    """A server."""
    assert built
    return Postgres.on(bench, postgres_image, "rows")


def dumped(server: Postgres, sql: str) -> bytes:
    """Return the dump of a new database with these tables."""
    database = server.create()
    server.sql(database, sql)
    command = [*postgres.dump(server.host)[:-2], "--username=gitea", database]
    return subprocess.run(command, capture_output=True, check=True).stdout


def read(server: Postgres, file: Path) -> tuple[DumpRows, Finished]:
    """Read the rows of a dump as `ops backup verify` does."""
    found = DumpRows()
    tables = (*contents.MAIN_TABLES, *dump_rows.COLUMNS)
    command = postgres.dump_rows(server.host, tables, dump_rows.COLUMNS)
    return found, Processes().pipe(["cat", str(file)], command, environment={}, tell=found.add)


def test_the_rows_of_a_dump_are_counted_whatever_is_in_them(server: Postgres, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(dumped(server, TABLES + ODD))
    found, done = read(server, tmp_path / "dump")
    assert done.code == 0, done.output
    assert found.counts == {"user": 3, "repository": 6, "repo_unit": 11, "comment": 8, "milestone": 0}


@pytest.mark.parametrize(
    ("tables", "served"),
    [(TABLES, {"keeper/whole.git", "org/of-an-organization.git"}), (FEWER, {"keeper/whole.git"})],
    ids=["of Gitea", "of a version with fewer columns"],
)
def test_the_repositories_that_gitea_serves_are_those_that_a_drill_clones(
    server: Postgres, tmp_path: Path, tables: str, served: set[str]
) -> None:
    (tmp_path / "dump").write_bytes(dumped(server, tables))
    found, done = read(server, tmp_path / "dump")
    assert (done.code, set(found.served())) == (0, served), done.output


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_truncated_dump_is_an_error_and_is_read_to_its_end(server: Postgres, tmp_path: Path, share: float) -> None:
    whole = dumped(server, TABLES + ODD)
    (tmp_path / "dump").write_bytes(whole[: int(len(whole) * share)])
    _, done = read(server, tmp_path / "dump")
    assert done.code == 1
    assert "pg_restore: error:" in done.output
