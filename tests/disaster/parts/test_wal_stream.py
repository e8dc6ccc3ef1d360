"""The WAL stream with a real PostgreSQL and a real bucket: the stream is killed, and the database recovers from the bucket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import pytest

from ground import aws
from ground.container import RUN_LABEL, RunContext
from ops.config.paths import HostPaths
from ops.wal import base_backups, recovery, segments, stream
from ops.wal import plan as wal_plan
from ops.world import World, postgres
from ops.world.restic import Snapshot
from tests.support import fakes

ROOT = Path(__file__).parents[3]
BUCKET = "example-org-gitea-backup"
# A running stream has a commit in the bucket after so many seconds.
LOSS_SECONDS = 60
# For what depends on the machine: the start of containers and of the stream.
PATIENCE_SECONDS = 300


@dataclass
class Stage:
    """A database in a container, a bucket, and the folders of a host."""

    world: World
    paths: HostPaths
    endpoint: str
    container: str

    def ask(self, statement: str) -> str:
        ask = ["docker", "exec", self.container, "psql", "--username=gitea", "--tuples-only", "--no-align", "--quiet"]
        done = subprocess.run([*ask, f"--command={statement}", "gitea"], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the stream as its own process, as the host's unit does."""
        program = (
            "import sys; from pathlib import Path; from tests.disaster.parts.test_wal_stream import run_stream; "
            "run_stream(Path(sys.argv[1]), *sys.argv[2:])"
        )
        argv = [sys.executable, "-c", program, str(self.paths.data.parent), self.paths.project, self.endpoint]
        return subprocess.Popen(argv, cwd=ROOT)

    def covered(self) -> datetime:
        state = stream.state_of(self.paths)
        return state.covered if state else datetime.min.replace(tzinfo=UTC)

    def shipped(self) -> list[str]:
        return [segments.name_from(key) for key in self.world.aws.objects(BUCKET, segments.PREFIX)]


@dataclass(frozen=True)
class Archive:
    """A base backup in a file instead of a restic repository; the tests on a deployed site replay base backups from restic."""

    path: Path

    def snapshots(self) -> tuple[Snapshot, ...]:
        return ()

    def dump_into(self, snapshot: str, filename: str, argv: Sequence[str], hear: Callable[[str], None]) -> None:
        assert filename == base_backups.ARCHIVE
        with self.path.open("rb") as file:
            subprocess.run(argv, stdin=file, check=True)


def places_in(folder: Path, project: str) -> HostPaths:
    return HostPaths(
        data=folder / "data",
        secrets=folder / "secrets",
        local=folder / "backup/restic",
        cache=folder / "backup/cache",
        lock=folder / "run/operation.lock",
        configuration=(),
        project=project,
        watchdog_image="none",
    )


def world_at(endpoint: str) -> World:
    os.environ.update(aws.CREDENTIALS)
    site = fakes.site(aws={"region": aws.REGION, "endpoint_url": endpoint})
    return World(site, tell=lambda line: print(line, file=sys.stderr, flush=True))


def run_stream(folder: Path, project: str, endpoint: str) -> None:
    world = world_at(endpoint)
    stream.stream(world.site, world, paths=places_in(folder, project))


def until(ready: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


@pytest.fixture
def stage(
    run_context: RunContext, aws_endpoint: str, postgres_image: str, docker_client: docker.DockerClient, tmp_path: Path
) -> Iterator[Stage]:
    paths = places_in(tmp_path, f"{run_context.run}-wal")
    paths.secrets.mkdir()
    (paths.secrets / "restic-password").write_text("a password of 43 letters and digits, as made\n")
    labels = {
        RUN_LABEL: run_context.run,
        "com.docker.compose.project": paths.project,
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
    made = Stage(world, paths, aws_endpoint, str(container.name))
    ready = ["pg_isready", "--quiet", "-h", "127.0.0.1", "-U", "gitea", "-d", "gitea"]
    until(lambda: container.exec_run(ready).exit_code == 0, "the database is up")
    yield made
    world.containers.discard(made.container)
    world.containers.discard(f"{paths.project}-wal")


def base_of(stage: Stage, archive: Path) -> segments.BaseBackup:
    """Take a base backup of the database into a file."""
    with stage.world.postgres.session(stage.container, "postgres") as session:
        source = base_backups.wal_source_of(session)
        start = base_backups.position_of(session)
        with archive.open("wb") as file:
            subprocess.run(postgres.base_backup(stage.container), stdout=file, check=True)
        end = base_backups.position_of(session)
    now, size = stage.world.clock.now(), archive.stat().st_size
    return segments.BaseBackup(
        "base", source.system, source.timeline, start, end, now, "", "", size, "18", source.segment_bytes
    )


def rows(
    stage: Stage, image: str, plan: wal_plan.ReplayPlan, archive: Path, left: frozenset[str] = frozenset()
) -> set[int]:
    """Return the rows of the database that a plan recovers."""
    waiting, key = (
        segments.Waiting(stage.paths.wal / plan.base.system),
        base_backups.encryption_key(stage.paths.secrets),
    )
    name = f"{stage.paths.project}-replay"
    place = recovery.ReplayTarget(stage.paths.data / ".replay", name, image, key, waiting, left)
    source: Any = Archive(archive)
    with (
        recovery.recovered_database(stage.world.site, stage.world, plan, source, place) as container,
        stage.world.postgres.session(container) as session,
    ):
        found = session.ask("SELECT number FROM kept")
    assert not place.folder.exists()
    return {int(number) for (number,) in found}


def test_a_lost_database_is_recovered_from_base_backup_and_wal_although_the_stream_was_killed(
    stage: Stage, docker_client: docker.DockerClient, postgres_image: str, tmp_path: Path
) -> None:
    stage.paths.data.mkdir()
    archive = tmp_path / base_backups.ARCHIVE
    stage.ask("CREATE TABLE kept (number int)")
    running = stage.start()
    try:
        until(lambda: bool(stage.shipped()), "the first segment is in the bucket")
        base = base_of(stage, archive)
        for number in range(3):
            stage.ask(f"INSERT INTO kept VALUES ({number})")
            # Killed during a segment: nothing is undone, and the receiver continues without the stream.
            running.send_signal(signal.SIGKILL)
            running.wait()
            stage.ask("SELECT pg_switch_wal()")
            running = stage.start()
            time.sleep(1)
        position = segments.position_from(stage.ask("SELECT pg_current_wal_insert_lsn()"))
        # The stream that was just started ships it.
        stage.ask("INSERT INTO kept VALUES (3)")
        started = datetime.now(UTC)
        until(lambda: stage.covered() > started, "the row after the restart is in the bucket")
        stage.ask("INSERT INTO kept VALUES (4)")
        acknowledged = datetime.now(UTC)
        until(lambda: stage.covered() > acknowledged, "the last row is in the bucket", LOSS_SECONDS)
        seconds = (datetime.now(UTC) - acknowledged).total_seconds()
        print(f"in the bucket {seconds:.1f} s after the acknowledgement", file=sys.stderr)
        assert seconds < LOSS_SECONDS
        # One more row, which the stream does not ship in time.
        stage.ask("INSERT INTO kept VALUES (5)")
        part = segments.Waiting(stage.paths.wal / base.system)
        current = segment_of(stage)
        until(lambda: current in recovery.unshipped_names(part), "the current segment is received")
        time.sleep(1)
        docker_client.containers.get(stage.container).remove(force=True, v=True)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    names = frozenset(base_backups.shipped(stage.world.site, stage.world, base.system))
    numbers = sorted(found.number for name in names if (found := segments.segment_from(name)))
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "a gap"
    versions = aws.client(stage.endpoint, "s3").list_objects_v2(Bucket=BUCKET, Prefix=f"wal/{base.system}/")["Contents"]
    assert max(each["Size"] for each in versions) < segments.SEGMENT_BYTES / 4

    def plan(target: int | None, available: frozenset[str] = names) -> wal_plan.ReplayPlan:
        return wal_plan.plan_replay([base], available, base.system, target)

    assert rows(stage, postgres_image, plan(position), archive) == {0, 1, 2}
    assert rows(stage, postgres_image, plan(None), archive) >= {0, 1, 2, 3, 4}
    # The host's other disk has the segments that are not in the bucket.
    left = recovery.unshipped_names(part) - names
    assert rows(stage, postgres_image, plan(None, names | left), archive, left) == {0, 1, 2, 3, 4, 5}
    second = segments.Segment(base.start // base.segment_bytes + 1, base.timeline).name(base.segment_bytes)
    with pytest.raises(wal_plan.Gap, match=f"segment {second} is missing"):
        plan(None, names - {second})


def test_wal_that_is_received_while_the_bucket_is_unreachable_is_shipped_later(stage: Stage) -> None:
    stage.ask("CREATE TABLE kept (number int)")
    system = stage.ask("SELECT system_identifier FROM pg_control_system()")
    part, reachable = segments.Waiting(stage.paths.wal / system), stage.endpoint
    stage.endpoint = "http://127.0.0.1:9"
    running = stage.start()
    try:
        until(lambda: segment_of(stage) in recovery.unshipped_names(part), "the WAL is received")
        stage.ask("INSERT INTO kept VALUES (1)")
        stage.ask("SELECT pg_switch_wal()")
        until(lambda: segment_of(stage) in recovery.unshipped_names(part), "the next segment is received, too")
        assert running.poll() is None
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    left, stage.endpoint = recovery.unshipped_names(part), reachable
    running = stage.start()
    try:
        complete = {name for name in left if name < segment_of(stage)}
        assert complete
        until(lambda: complete <= set(stage.shipped()), "every complete segment is in the bucket")
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()


def segment_of(stage: Stage) -> str:
    return stage.ask("SELECT pg_walfile_name(pg_current_wal_lsn())")
