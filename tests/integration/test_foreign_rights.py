"""A dump of a database with roles, grants, other owners and extensions restores into a fresh server, on real ones."""

from __future__ import annotations

import pytest

from ground.image_set import ImageSet
from ops.restore import rights
from ops.world import postgres
from ops.world.process import Finished, Processes
from tests.support.gitea_contract import Bench, Postgres

GROWN = """
CREATE ROLE metrics_ro;
CREATE ROLE "odd; name" LOGIN;
CREATE EXTENSION pg_trgm;
CREATE TABLE issue (id bigserial PRIMARY KEY, name text);
CREATE INDEX similar_names ON issue USING gin (name gin_trgm_ops);
CREATE TABLE report (id int, owner text);
ALTER TABLE report OWNER TO metrics_ro;
CREATE SCHEMA reports AUTHORIZATION "odd; name";
CREATE FUNCTION reports.answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
ALTER FUNCTION reports.answer() OWNER TO "odd; name";
GRANT SELECT ON ALL TABLES IN SCHEMA public TO metrics_ro;
GRANT USAGE ON SEQUENCE issue_id_seq TO metrics_ro;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO metrics_ro;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE PUBLICATION everything FOR ALL TABLES;
INSERT INTO issue (name) SELECT repeat(md5(i::text), 20) FROM generate_series(1, 20000) i;
INSERT INTO report VALUES (1, 'someone');
"""
SERVERS = ["postgres:17.11", "postgres:18.6"]


@pytest.fixture(scope="module", params=SERVERS)
def servers(bench: Bench, built: ImageSet, request: pytest.FixtureRequest) -> tuple[Postgres, Postgres]:
    """A server with such a database, and a fresh one of the same version."""
    name = request.param.replace(":", "-")
    grown = Postgres.on(bench, built.local(request.param), f"{name}-grown")
    fresh = Postgres.on(bench, built.local(request.param), f"{name}-fresh")
    grown.sql("gitea", GROWN)
    return grown, fresh


def copied(source: Postgres, target: Postgres, database: str) -> tuple[Finished, list[str], list[str]]:
    """Return how the copy ended, its messages and the statements that it left out."""
    told, left_out = list[str](), list[str]()
    load = postgres.load(target.host, database, rights=False)
    on_line = rights.separate(told.append, left_out)
    return Processes().pipe(postgres.dump(source.host), load, environment={}, tell=on_line), told, left_out


def test_a_dump_with_foreign_roles_and_owners_restores_into_a_fresh_server(servers: tuple[Postgres, Postgres]) -> None:
    grown, fresh = servers
    done, told, left_out = copied(grown, fresh, "gitea")
    assert (done.code, told) == (0, []), done.output
    assert fresh.sql("gitea", "SELECT count(*) FROM issue") == "20000"
    assert fresh.sql("gitea", "SELECT count(*) FROM report") == "1"
    assert fresh.sql("gitea", "SELECT reports.answer()") == "42"
    assert fresh.sql("gitea", "SELECT extname FROM pg_extension WHERE extname = 'pg_trgm'") == "pg_trgm"
    assert fresh.sql("gitea", "SELECT count(*) FROM pg_indexes WHERE indexname = 'similar_names'") == "1"
    assert fresh.sql("gitea", "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == "gitea"
    assert fresh.sql("gitea", "SELECT count(*) FROM pg_publication") == "0"
    lines = rights.lines_of(left_out)
    assert lines[0].startswith('not restored: roles "odd; name", metrics_ro and their rights')
    assert "not restored: GRANT SELECT ON TABLE public.issue TO metrics_ro;" in lines
    assert "not restored: the owners of 3 objects, which gitea owns now" in lines
    assert [line for line in lines if "ALTER DEFAULT PRIVILEGES" in line]


def test_a_site_whose_server_has_the_roles_is_restored_beside_its_database(servers: tuple[Postgres, Postgres]) -> None:
    grown, _ = servers
    database = grown.create()
    done, told, left_out = copied(grown, grown, database)
    assert (done.code, told, bool(left_out)) == (0, [], True), done.output
    assert grown.sql(database, "SELECT count(*) FROM issue") == "20000"


def test_a_load_without_rights_that_fails_loads_nothing_and_says_why(servers: tuple[Postgres, Postgres]) -> None:
    grown, fresh = servers
    database = fresh.create()
    fresh.sql(database, "CREATE TABLE issue (id int)")
    done, _, _ = copied(grown, fresh, database)
    assert done.code != 0
    assert 'relation "issue" already exists' in done.output
    assert fresh.sql(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "1"


def test_a_load_leaves_no_file_in_the_server_s_container(servers: tuple[Postgres, Postgres]) -> None:
    _, fresh = servers
    assert int(fresh.container.exec_run(["sh", "-c", "ls -d /tmp/tmp.*"]).exit_code) != 0
