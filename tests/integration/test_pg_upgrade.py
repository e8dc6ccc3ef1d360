"""Copying a database to another major version of PostgreSQL, and finding every difference, on two real servers."""

from __future__ import annotations

import pytest

from ground.image_set import ImageSet
from ops.update import pg_upgrade
from ops.world import postgres
from ops.world.process import Processes
from tests.support.gitea_contract import Bench, Postgres

CONTENT = """
CREATE TABLE "user" (id serial PRIMARY KEY, name text UNIQUE, score double precision, made timestamptz NOT NULL, image bytea);
CREATE TABLE issue (id bigserial PRIMARY KEY, user_id int REFERENCES "user", title text, CONSTRAINT titled CHECK (title <> E'a\\nb'));
CREATE INDEX of_one_line ON issue (title) WHERE title <> E'a\\tb\\nc';
CREATE VIEW titles AS SELECT title FROM issue;
CREATE TABLE empty (id int);
INSERT INTO "user" (name, score, made, image)
    SELECT E'na\\tme\\n' || i, i / 3.0, '2026-03-29 01:30+00'::timestamptz + i * interval '1 hour', decode(md5(i::text), 'hex')
    FROM generate_series(1, 500) i;
INSERT INTO issue (user_id, title) SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 500) i;
"""


@pytest.fixture(scope="module")
def old(bench: Bench, built: ImageSet) -> Postgres:
    """A server of the older major version with Gitea's database."""
    server = Postgres.on(bench, built.local("postgres:17.11"), "old")
    server.sql("gitea", CONTENT)
    return server


@pytest.fixture(scope="module")
def copied(old: Postgres, bench: Bench, built: ImageSet) -> tuple[Postgres, dict[str, str]]:
    """A server of the newer major version with a copy made as by an update, and the content of the old one."""
    new = Postgres.on(bench, built.local("postgres:18.6"), "new")
    done = Processes().pipe(postgres.dump(old.host), postgres.load(new.host, postgres.USER), environment={}, tell=print)
    assert done.code == 0, done.output
    return new, content_of(old)


def content_of(server: Postgres, name: str = postgres.USER) -> dict[str, str]:
    with postgres.Postgres().session(server.host, name) as session:
        return pg_upgrade.content(session)


def test_a_copy_in_another_major_version_is_complete(copied: tuple[Postgres, dict[str, str]]) -> None:
    new, had = copied
    assert new.sql("gitea", "SHOW server_version").startswith("18.")
    assert {name.partition(" ")[0] for name in had} == {"table", "sequence", "view", "index", "constraint"}
    assert had['table public."user"'].startswith("500 rows (")
    assert had["table public.empty"] == "0 rows (0)"
    assert pg_upgrade.differences(had, content_of(new)) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE issue SET title = overlay(title PLACING 'x' FROM 700) WHERE id = 77", "table public.issue"),
        ("DELETE FROM issue WHERE id = 500", "table public.issue"),
        ('UPDATE "user" SET score = score + 1e-13 WHERE id = 1', 'table public."user"'),
        ("SELECT setval('issue_id_seq', 1)", "sequence public.issue_id_seq"),
        ("DROP VIEW titles", "view public.titles"),
        ("DROP INDEX of_one_line", "index public.of_one_line"),
        ("ALTER TABLE issue DROP CONSTRAINT titled", "constraint titled of issue"),
        ("DROP TABLE empty", "table public.empty"),
    ],
)
def test_every_difference_of_a_copy_is_found(copied: tuple[Postgres, dict[str, str]], damage: str, found: str) -> None:
    new, had = copied
    damaged = new.create(template="gitea")
    new.sql(damaged, damage)
    assert [each.partition(":")[0] for each in pg_upgrade.differences(had, content_of(new, damaged))] == [found]


def test_foreign_databases_and_roles_are_listed(old: Postgres) -> None:
    def foreign_objects() -> tuple[str, ...]:
        with postgres.Postgres().session(old.host) as session:
            return pg_upgrade.foreign_objects(session)

    assert foreign_objects() == ()
    old.sql("postgres", "CREATE DATABASE wiki")
    old.sql("postgres", "CREATE ROLE reader")
    assert foreign_objects() == ("database wiki", "role reader")


def test_a_failed_dump_reports_its_cause(old: Postgres) -> None:
    dump = [*postgres.dump(old.host), "--table=no_such_table"]
    done = Processes().pipe(dump, postgres.load(old.host, "postgres"), environment={}, tell=print)
    assert done.code != 0
    assert "no matching tables were found" in done.output
