"""The stand-in gives the answers that real Gitea was recorded to give; tests/data/recordings/unserved.toml lists the others."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ground.image_set import ImageSet
from tests.support.gitea_contract import METRICS_TOKEN, Bench, Fleet, Gitea, Postgres, Worktree, eventually, executed
from tests.support.recordings import DOMAIN, VERSIONS, Compared, Replay, faults, load, unserved

Image = Callable[[str], str]
# The image whose program answers as each recorded version does, when its file VERSION names it.
IMAGE_TAG = "1.27.3"
_SETTINGS = {
    "GITEA__server__ROOT_URL": f"http://{DOMAIN}/",
    "GITEA__server__SSH_DOMAIN": DOMAIN,
    "GITEA__metrics__ENABLED": "true",
    "GITEA__metrics__TOKEN": METRICS_TOKEN,
    "GITEA_STANDIN_PING_SECONDS": "0.2",
}
_COLUMNS = """SELECT table_name, column_name, data_type || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END
    FROM information_schema.columns WHERE table_schema = 'public'"""


_KILL = """for each in /proc/[0-9]*; do
    if tr '\\0' ' ' <$each/cmdline | grep -q 'gitea/gitea we[b]'; then kill -9 ${each#/proc/}; fi
done"""


@dataclass(frozen=True)
class Replayed:
    """A recorded version whose requests were sent again, and what its database, its metrics and its file of keys then had."""

    version: str
    results: tuple[Compared, ...]
    columns: dict[tuple[str, str], str]
    metrics: str
    authorized_keys: str


def of_version(fleet: Fleet, version: str, database: str = "", volume: str = "") -> Gitea:
    """Return the healthy stand-in, as that version of Gitea."""
    command = f"echo {version} >/app/gitea/VERSION; exec /usr/bin/entrypoint"
    entry = ["sh", "-c", command]
    return fleet.healthy(IMAGE_TAG, environment=_SETTINGS, entrypoint=entry, database=database, volume=volume)


@pytest.fixture(scope="module", autouse=True)
def stand_in(built: ImageSet) -> None:
    """The stand-in. With upstream's images, conftest.py leaves this file out: nothing would be compared."""
    assert built.name == "hermetic"


@pytest.fixture(scope="module")
def postgres(bench: Bench, postgres_image: str) -> Postgres:
    """A server with one database per version."""
    return Postgres.on(bench, postgres_image, "recorded")


@pytest.fixture(scope="module", params=VERSIONS)
def fleet(request: pytest.FixtureRequest, bench: Bench, postgres: Postgres, gitea_image: Image) -> tuple[str, Fleet]:
    """A recorded version, and the images for it."""
    return str(request.param), Fleet(bench, postgres, gitea_image)


@pytest.fixture(scope="module")
def replayed(fleet: tuple[str, Fleet], tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The version with all of its requests, sent again to the stand-in in their order."""
    version, at = fleet
    gitea, server, seen = of_version(at, version), at.postgres, {}

    def stop_database() -> None:
        seen["columns"] = server.sql(gitea.database, _COLUMNS)
        seen["metrics"] = gitea.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}).text
        seen["keys"] = executed(gitea.container, ["cat", "/data/git/.ssh/authorized_keys"])[1]
        server.container.stop(timeout=10)
        # The engine forgets the name a moment after the stop, and the stand-in a used connection after a second.
        eventually(lambda: executed(gitea.container, ["getent", "hosts", server.host])[0] != 0)
        time.sleep(1)

    replay = Replay(version, gitea, Worktree.at(tmp_path_factory.mktemp("recorded") / "work"), server.host)
    results = replay.run(stop_database)
    columns = {
        (table, column): kind for table, column, kind in (row.split("|") for row in seen["columns"].splitlines())
    }
    gitea.remove()
    server.container.start()
    eventually(server.ready)
    return Replayed(version, results, columns, seen["metrics"], seen["keys"])


def test_every_recorded_request_is_answered_as_recorded_or_listed(replayed: Replayed) -> None:
    assert faults(replayed.version, replayed.results) == []


def test_tables_have_the_recorded_columns_types_and_constraints(replayed: Replayed) -> None:
    recorded = load(replayed.version, "database")["columns"]
    assert len(set(recorded) & {table for table, _ in replayed.columns}) >= 16
    own = {(entry["table"], column) for entry in unserved()["columns"] for column in entry["columns"]}
    different = {
        f"{table}.{column}": (kind, recorded[table].get(column))
        for (table, column), kind in replayed.columns.items()
        if table in recorded and (table, column) not in own and kind != recorded[table].get(column)
    }
    assert different == {}
    assert {each for each in own if recorded[each[0]].get(each[1]) == replayed.columns.get(each)} == set()
    read = {(entry["table"], column) for entry in unserved()["read_by_ops"] for column in entry["columns"]}
    assert read - set(replayed.columns) == set()
    assert {(table, column) for table, column in read if column not in recorded[table]} == set()


def test_metrics_have_the_recorded_names_and_labels(replayed: Replayed) -> None:
    recorded = load(replayed.version, "other")
    lines = [line for line in replayed.metrics.splitlines() if line.startswith("gitea_")]
    assert sorted({re.split("[ {]", line)[0] for line in lines}) == sorted(recorded["metrics"])
    labelled = {re.sub(r'="[^"]*"', "", line.rpartition(" ")[0]) for line in lines if "{" in line}
    assert sorted(labelled) == sorted(recorded["metrics_labels"])


def test_authorized_keys_have_the_recorded_form(replayed: Replayed) -> None:
    recorded = re.sub(r"PUBLIC-KEY .*", "PUBLIC-KEY", load(replayed.version, "other")["authorized_keys"])
    assert re.sub(r"ssh-ed25519 \S+ .*", "ssh-ed25519 PUBLIC-KEY", replayed.authorized_keys) == recorded


def test_it_stops_dies_and_refuses_a_newer_database_as_recorded(fleet: tuple[str, Fleet]) -> None:
    version, at = fleet
    recorded, volume = load(version, "other"), at.bench.volume()
    gitea = of_version(at, version, volume=volume)
    assert at.postgres.version(gitea.database) == load(version, "database")["version"]
    began = time.monotonic()
    gitea.container.stop(timeout=30)
    # Docker's own part of a stop takes some tenths of a second.
    assert time.monotonic() - began < recorded["stop_idle"]["seconds"] + 1.5
    assert _exit_code(gitea) == recorded["stop_idle"]["exit"]

    gitea.container.start()
    eventually(lambda: gitea.health() == 200)
    gitea.container.exec_run(["sh", "-c", _KILL])
    eventually(lambda: gitea.status() == "exited")
    assert _exit_code(gitea) == recorded["after_kill_9_of_gitea"]["exit"]

    (number,) = re.findall(r"migration version: (\d+)", recorded["newer_database"]["log"][0])
    at.postgres.sql(gitea.database, f"UPDATE version SET version = {number}")
    gitea.container.start()
    eventually(lambda: gitea.status() == "exited")
    assert _exit_code(gitea) == recorded["newer_database"]["exit"]
    refusal = [re.sub(r"^.*(?=\[F\])", "", line) for line in recorded["newer_database"]["log"]]
    assert "\n".join(refusal) in gitea.logs()

    idle = at.start(
        IMAGE_TAG,
        database=gitea.database,
        volume=volume,
        entrypoint=["sh", "-c", f"echo {version} >/app/gitea/VERSION; exec sleep 60"],
    )
    code, output = idle.run("migrate")
    idle.remove()
    assert (code, "\n".join(refusal) in output) == (recorded["migrate_on_newer_database"]["exit"], True)


def test_a_start_can_be_made_as_slow_as_a_real_one(bench: Bench, postgres: Postgres, gitea_image: Image) -> None:
    seconds = load("1.27.0", "other")["second_start_seconds"]
    slow = Fleet(bench, postgres, gitea_image).start(
        IMAGE_TAG, environment={"GITEA_STANDIN_START_SECONDS": str(seconds)}
    )
    eventually(lambda: "Starting Gitea" in slow.logs())
    began = time.monotonic()
    eventually(lambda: slow.health() == 200)
    assert seconds - 1 < time.monotonic() - began < seconds + 10


def _exit_code(gitea: Gitea) -> int:
    gitea.container.reload()
    return int(gitea.container.attrs["State"]["ExitCode"])
