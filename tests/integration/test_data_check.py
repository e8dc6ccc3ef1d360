"""The canary and the counts of an update on the Gitea and the PostgreSQL of the image set, from release to release."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from ops.images.versions import Release, release_from
from ops.model import Secret
from ops.update import canary, table_counts
from ops.world.https import Answer
from ops.world.postgres import Postgres as Database
from tests.support import fakes
from tests.support.gitea_contract import ADMIN, Bench, Fleet, Gitea, Postgres

SITE = fakes.site(gitea={"admin_username": ADMIN, "admin_email": "operator@gitea.test"})


@pytest.fixture(scope="module")
def postgres(bench: Bench, postgres_image: str) -> Postgres:
    return Postgres.on(bench, postgres_image)


@pytest.fixture(scope="module")
def fleet(bench: Bench, postgres: Postgres, gitea_image: Callable[[str], str]) -> Fleet:
    return Fleet(bench, postgres, gitea_image)


class Plain:
    """The adapter to HTTPS, without TLS: Gitea itself instead of nginx."""

    def __init__(self, gitea: Gitea) -> None:
        self._gitea = gitea

    def request(
        self,
        domain: str,
        address: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> Answer:
        sent = {"data": document} if isinstance(document, bytes) else {"json": document}
        # The document's own type: the one of LFS is not JSON's.
        answer = requests.request(method, f"{self._gitea.url}{path}", headers=dict(headers or {}), timeout=30, **sent)
        return Answer(answer.status_code, body=answer.content)


def world_of(gitea: Gitea) -> Any:
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=time.sleep)
    return SimpleNamespace(https=Plain(gitea), clock=clock, postgres=DatabaseOf(gitea.database))


class DatabaseOf:
    """The adapter to PostgreSQL, with another database than Gitea's own name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def session(self, container: str) -> Any:
        return Database().session(container, self._name)


def release(tag: str) -> Release:
    found = release_from(tag)
    assert found
    return found


def token_of(gitea: Gitea, name: str) -> Secret:
    code, output = gitea.run(
        "admin", "user", "generate-access-token", "--username", ADMIN, "--token-name", name, "--scopes", "all"
    )
    assert code == 0, output
    return Secret(output.strip().rpartition(" ")[2])


def test_the_canary_of_the_oldest_release_comes_back_on_the_newest_and_leaves_nothing(
    fleet: Fleet, postgres: Postgres
) -> None:
    volume = fleet.bench.volume()
    old = fleet.healthy("1.22.6", volume=volume)
    old.create_admin()
    token = token_of(old, "canary")
    empty = table_counts.count(world_of(old), postgres.host, seconds=60)
    # Written twice: the second removes the first.
    canary.write(SITE, world_of(old), token, release("1.22.6"))
    written = canary.write(SITE, world_of(old), token, release("1.22.6"))
    served = [part for part in canary.PARTS if part != "wiki page"]
    too_old = {"wiki page": "Gitea 1.22.6 is older than its first known version"}
    assert ([part.name for part in written.parts], written.skipped) == (served, too_old)
    before = table_counts.count(world_of(old), postgres.host, seconds=60)
    assert before.counted["public.comment.content"] == 1
    assert before.counted["public.release.note"] == 1
    old.container.stop(timeout=30)
    new = fleet.healthy("28.1.0", database=old.database, volume=volume)
    assert canary.compare(SITE, world_of(new), token, written.parts) == canary.Compared((), lost=False)
    after = table_counts.count(world_of(new), postgres.host, seconds=60)
    losses = table_counts.losses(before, after)
    assert (losses.removed, losses.shrunk, losses.lost) == ((), {}, ())
    canary.remove(SITE, world_of(new), token)
    left = table_counts.count(world_of(new), postgres.host, seconds=60)
    grown = {name for name, number in empty.counted.items() if left.counted.get(name, 0) > number}
    assert grown == set()


def test_a_release_that_empties_every_comment_is_found_by_the_canary_and_by_the_counts(
    fleet: Fleet, postgres: Postgres
) -> None:
    volume = fleet.bench.volume()
    old = fleet.healthy("28.1.0", volume=volume)
    old.create_admin()
    token = token_of(old, "canary")
    name = old.create_repository("discussed", auto_init=True)
    number = old.api("POST", f"/repos/{name}/issues", {"title": "t"}).json()["number"]
    for each in range(12):
        assert old.api("POST", f"/repos/{name}/issues/{number}/comments", {"body": f"said {each}"}).status_code == 201
    written = canary.write(SITE, world_of(old), token, release("28.1.0"))
    before = table_counts.count(world_of(old), postgres.host, seconds=60)
    old.container.stop(timeout=30)
    forgets = fleet.healthy("28.1.1-forgets", database=old.database, volume=volume)
    compared = canary.compare(SITE, world_of(forgets), token, written.parts)
    assert compared == canary.Compared(("comment: its body changed",), lost=True)
    after = table_counts.count(world_of(forgets), postgres.host, seconds=60)
    assert after.migration == before.migration
    assert table_counts.losses(before, after).lost == ("public.comment.content: 13 became 0",)


@pytest.fixture
def filled(postgres: Postgres) -> str:
    """A database with tables as Gitea's, and with names that need quotes."""
    name = postgres.create()
    for statement in (
        "CREATE TABLE version (version bigint)",
        "INSERT INTO version VALUES (336)",
        "CREATE TABLE comment (id bigint, content text, patch text, short varchar(40), wide varchar(2000))",
        "INSERT INTO comment SELECT n, CASE WHEN n % 2 = 0 THEN repeat(md5(n::text), 300) END, '', 's', 'w' "
        "FROM generate_series(1, 1000) n",
        "CREATE TABLE release (note text, blob bytea)",
        "INSERT INTO release VALUES ('n', '\\x00'), (NULL, '')",
        'CREATE SCHEMA "Other"; CREATE TABLE "Other"."Odd ""table" ("a ""column" text)',
        "CREATE TABLE empty ()",
        "CREATE VIEW seen AS SELECT content FROM comment",
    ):
        postgres.sql(name, statement)
    return name


def count(postgres: Postgres, database: str, seconds: float) -> table_counts.Counts:
    clock = SimpleNamespace(monotonic=time.monotonic)
    world: Any = SimpleNamespace(clock=clock, postgres=DatabaseOf(database))
    return table_counts.count(world, postgres.host, seconds=seconds)


def test_rows_and_filled_values_of_large_columns_are_counted_by_the_catalog(postgres: Postgres, filled: str) -> None:
    assert count(postgres, filled, 60) == table_counts.Counts(
        {
            "public.comment": 1000,
            "public.comment.content": 500,
            "public.comment.patch": 0,
            "public.comment.wide": 1000,
            "public.release": 2,
            "public.release.note": 1,
            "public.release.blob": 1,
            "public.version": 1,
            "public.empty": 0,
            '"Other"."Odd ""table"': 0,
            '"Other"."Odd ""table"."a ""column"': 0,
        },
        (),
        336,
    )


def test_a_count_ends_in_time_and_names_what_it_left_out(postgres: Postgres, filled: str) -> None:
    # A migration that is stuck holds such a lock.
    command = ["psql", "-X", "-U", "gitea", "-d", filled, "-c", "BEGIN; LOCK comment; SELECT pg_sleep(20)"]
    holder = subprocess.Popen(["docker", "exec", postgres.host, *command], stdout=subprocess.DEVNULL)
    try:
        locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'comment'::regclass"
        while postgres.sql(filled, locked) == "0":
            time.sleep(0.1)
        began = time.monotonic()
        found = count(postgres, filled, 2)
        assert time.monotonic() - began < 6
    finally:
        postgres.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN%'")
        holder.wait()
    assert "public.comment.content" in found.uncounted
    assert "public.version" in {*found.counted, *found.uncounted}
    assert table_counts.losses(count(postgres, filled, 60), found).lost == ()
