"""The database's log on its way to the bucket: a real PostgreSQL, a real bucket, and a stream that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from ground import aws
from ground.fixture import RUN_LABEL, Place
from ops import seal, stream, wal
from ops.backup import Places
from ops.world import World
from tests import fakes

ROOT = Path(__file__).parents[2]
BUCKET = "example-org-gitea-backup"
LOSS_SECONDS = 60


@dataclass
class Stage:
    """A database in a container, a bucket, and the folders of a host."""

    world: World
    places: Places
    endpoint: str
    container: str

    def ask(self, statement: str) -> str:
        ask = ["docker", "exec", self.container, "psql", "--username=gitea", "--tuples-only", "--no-align", "--quiet"]
        done = subprocess.run([*ask, f"--command={statement}", "gitea"], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def start(self) -> subprocess.Popen[bytes]:
        """Start a stream as a process of its own, as the host's unit does."""
        program = (
            "import sys; from pathlib import Path; from tests.integration.test_stream import run_stream; "
            "run_stream(Path(sys.argv[1]), *sys.argv[2:])"
        )
        argv = [sys.executable, "-c", program, str(self.places.data.parent), self.places.project, self.endpoint]
        return subprocess.Popen(argv, cwd=ROOT)

    def covered(self) -> datetime:
        known = stream.state_of(self.places)
        return known.covered if known else datetime.min.replace(tzinfo=UTC)

    def shipped(self) -> list[str]:
        return [wal.name_from(key) for key in self.world.aws.objects(BUCKET, wal.PREFIX)]


def places_in(folder: Path, project: str) -> Places:
    return Places(
        data=folder / "data",
        secrets=folder / "secrets",
        local=folder / "backup/restic",
        cache=folder / "backup/cache",
        lock=folder / "run/operation.lock",
        configuration=(),
        project=project,
        watchman="none",
    )


def world_at(endpoint: str) -> World:
    os.environ.update(aws.CREDENTIALS)
    site = fakes.site(aws={"region": aws.REGION, "endpoint_url": endpoint})
    return World(site, tell=lambda line: print(line, file=sys.stderr, flush=True))


def run_stream(folder: Path, project: str, endpoint: str) -> None:
    world = world_at(endpoint)
    stream.stream(world.site, world, places=places_in(folder, project))


def until(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


@pytest.fixture
def stage(
    place: Place, aws_endpoint: str, postgres_image: str, docker_client: docker.DockerClient, tmp_path: Path
) -> Iterator[Stage]:
    places = places_in(tmp_path, f"{place.run}-wal")
    places.secrets.mkdir()
    (places.secrets / "restic-password").write_text("a password of 43 letters and digits, as made\n")
    labels = {
        RUN_LABEL: place.run,
        "com.docker.compose.project": places.project,
        "com.docker.compose.service": "postgres",
    }
    container = docker_client.containers.run(
        postgres_image,
        ["postgres", "-c", "max_slot_wal_keep_size=4GB"],
        environment={"POSTGRES_USER": "gitea", "POSTGRES_DB": "gitea", "POSTGRES_PASSWORD": "never asked for"},
        labels=labels,
        detach=True,
    )
    world = world_at(aws_endpoint)
    if not world.aws.bucket_exists(BUCKET):
        where = {"LocationConstraint": aws.REGION}
        aws.client(aws_endpoint, "s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
    made = Stage(world, places, aws_endpoint, str(container.name))
    ready = ["pg_isready", "--quiet", "-h", "127.0.0.1", "-U", "gitea", "-d", "gitea"]
    until(lambda: container.exec_run(ready).exit_code == 0, "the database is up")
    yield made
    container.remove(force=True, v=True)
    world.containers.discard(f"{places.project}-wal")


def test_what_is_committed_is_in_the_bucket_within_the_minute_though_the_stream_is_killed(stage: Stage) -> None:
    stage.ask("CREATE TABLE kept (number int, told timestamptz DEFAULT clock_timestamp())")
    running = stage.start()
    try:
        until(lambda: bool(stage.shipped()), "the first segment is there")
        for number in range(3):
            stage.ask(f"INSERT INTO kept (number) VALUES ({number})")
            # Killed with a segment under way: nothing is undone, and the receiver goes on alone.
            running.send_signal(signal.SIGKILL)
            running.wait()
            stage.ask("SELECT pg_switch_wal()")
            running = stage.start()
            time.sleep(2)
        written = datetime.now(UTC)
        stage.ask("INSERT INTO kept (number) VALUES (3)")
        acknowledged = datetime.now(UTC)
        until(lambda: stage.covered() > acknowledged, "the last row is covered", LOSS_SECONDS)
        print(f"in the bucket after {(datetime.now(UTC) - written).total_seconds():.1f} s")
    finally:
        running.terminate()
        running.wait()
    names = sorted(stage.shipped())
    assert names == sorted(set(names))
    numbers = [found.number for name in names if (found := wal.segment_from(name))]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "a gap"
    # Each opens with the password alone, and is a segment as PostgreSQL wrote it.
    for key in stage.world.aws.objects(BUCKET, wal.PREFIX):
        sealed = stage.world.aws.read_object(BUCKET, key)
        assert len(sealed) < wal.SEGMENT_BYTES / 4
        assert len(seal.unpacked(seal.opened(sealed, stream.key_of(stage.places), key))) == wal.SEGMENT_BYTES
