"""Stream the WAL to the bucket: receive it beside the database, encrypt it, upload it, and only then delete it on the host.

PostgreSQL keeps WAL until it was received (a replication slot), the host keeps it until it is in the bucket. After an
interruption anywhere, the next run continues by the file names alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError
from ops.model import Report
from ops.wal import base_backups, encryption, segments
from ops.wal import plan as wal_plan
from ops.wal.base_backups import WalSource
from ops.wal.segments import Coverage, Streamed, Waiting
from ops.world import World
from ops.world import postgres as world_postgres
from ops.world.lock import exclusive
from ops.world.postgres import Session

SLOT = "gitea_suite"
_POLL_SECONDS = 1.0
_RETRY_SECONDS = 5.0


def stream(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Stream the WAL to the bucket until the process is stopped: commits arrive there within a minute.

    While the database or the bucket is unreachable, it retries and records that in the state that ``ops health`` reads.
    Raises Locked while another stream runs.
    """
    paths = paths or HostPaths()
    paths.wal.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(paths.lock.with_name("wal.lock"), world.clock.now()):
        while True:
            try:
                _receive(site, world, paths)
            except OpsError as error:
                world.tell(f"{error.message}; trying again")
                _record_trouble(paths, error.message)
            world.clock.sleep(_RETRY_SECONDS)


def state_of(paths: HostPaths) -> Streamed | None:
    """Return the last state of the stream, None before the first one."""
    file = _state(paths)
    return segments.state_from_json(file.read_text(encoding="utf-8")) if file.exists() else None


def ship(
    site: Site,
    world: World,
    waiting: Waiting,
    system: str,
    key: bytes,
    shipped: Collection[str] = frozenset(),
    on_arrival: Callable[[str, str], None] = lambda *_: None,
) -> None:
    """Upload the finished files; ``on_arrival`` gets the system and the name of each that is in the bucket.

    ``shipped`` has the files of an interrupted run that are already in the bucket. Raises Unavailable when the bucket is
    unreachable: then the received files wait, encrypted.
    """
    for name in sorted(shipped):
        on_arrival(system, name)
    received, encrypted = _names(waiting.received), _names(waiting.encrypted)
    plan = wal_plan.plan_shipping(received, encrypted, shipped)
    for name in plan.drop_received:
        (waiting.received / name).unlink()
    for name in plan.encrypt:
        content = (waiting.received / name).read_bytes()
        world.files.write(waiting.encrypted / name, encryption.encrypt(content, key, segments.key_of(system, name)))
        (waiting.received / name).unlink()
    for name in plan.drop_encrypted:
        (waiting.encrypted / name).unlink()
    for name in sorted(_names(waiting.encrypted)):
        world.aws.write_object(
            site.backup.bucket, segments.key_of(system, name), (waiting.encrypted / name).read_bytes()
        )
        on_arrival(system, name)
        (waiting.encrypted / name).unlink()


def ship_left_behind(
    site: Site,
    world: World,
    paths: HostPaths,
    key: bytes,
    on_arrival: Callable[[str, str], None] = lambda *_: None,
) -> None:
    """Upload the files that an earlier run left, of this database or of a former one, and none of them twice.

    ``on_arrival`` is called as in ``ship``. Raises Unavailable when the bucket is unreachable.
    """
    for folder in sorted(each for each in paths.wal.iterdir() if each.name.isdigit()):
        waiting = waiting_for(paths, folder.name)
        left = {name for name in [*_names(waiting.received), *_names(waiting.encrypted)] if segments.is_finished(name)}
        uploaded = left.intersection(base_backups.shipped(site, world, folder.name)) if left else set()
        same = {name for name in uploaded if _is_same(site, world, waiting, folder.name, name, key)}
        ship(site, world, waiting, folder.name, key, same, on_arrival)


def waiting_for(paths: HostPaths, system: str) -> Waiting:
    """Return the folders where the WAL of a database waits, created if missing."""
    found = Waiting(paths.wal / system)
    for folder in (found.received, found.encrypted):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found


def _receive(site: Site, world: World, paths: HostPaths) -> None:
    """Receive and upload WAL until the receiver ends or the database is unreachable; raises OpsError then."""
    postgres = world.containers.name(paths.project, "postgres")
    (image,) = [each.image for each in world.containers.services(paths.project) if each.name == "postgres"]
    key, receiver = base_backups.encryption_key(paths.secrets), f"{paths.project}-wal"
    with world.postgres.session(postgres, "postgres") as session:
        source = base_backups.wal_source_of(session)
        current = segments.Segment(base_backups.position_of(session) // source.segment_bytes, source.timeline)
        waiting = waiting_for(paths, source.system)
        world.containers.discard(receiver)
        if segments.is_reverted(_written(paths, waiting, source), current, source.segment_bytes):
            _reset(world, session, paths, waiting, source.system)
        _ensure_slot(world, session)
        program = world_postgres.receive_wal(postgres, image, waiting.received, slot=SLOT, name=receiver)
        uploader = _Uploader(site, world, paths, source, waiting, key, current)
        with world.processes.in_background(program) as companion:
            coverage = Coverage(_covered(paths, source))
            while not (ended := companion.ended()):
                coverage = _poll(uploader, session, coverage)
                world.clock.sleep(_POLL_SECONDS)
    raise OpsError(
        f"pg_receivewal ended: {ended.output.strip()[-400:]}", "look at docker logs of the postgres container"
    )


@dataclass
class _Uploader:
    """Uploads the WAL of a database. While uploads fail, receiving goes on and the received files wait.

    ``first`` is the segment in which this run began to receive. ``last`` is the last segment in the bucket, None before the
    bucket was reachable; ``arrived`` is the last one whose upload this run has seen, also if a later upload failed.
    ``retry_at`` is the time of the next attempt.
    """

    site: Site
    world: World
    paths: HostPaths
    source: WalSource
    waiting: Waiting
    key: bytes
    first: segments.Segment
    last: str | None = None
    arrived: str = ""
    retry_at: float = 0.0

    def upload(self) -> str | None:
        """Upload the finished files, leftovers first, and return the last segment in the bucket; None while uploads fail."""
        if self.world.clock.monotonic() < self.retry_at:
            return None
        try:
            if self.last is None:
                ship_left_behind(self.site, self.world, self.paths, self.key, self._note)
                shipped = base_backups.shipped(self.site, self.world, self.source.system)
                self.last = segments.last_before(shipped, self.first, self.source.segment_bytes)
            ship(self.site, self.world, self.waiting, self.source.system, self.key, on_arrival=self._note)
        except OpsError as error:
            self.world.tell(f"{error.message}; received WAL waits on this host; trying again")
            _record_trouble(self.paths, error.message)
            self.retry_at = self.world.clock.monotonic() + _RETRY_SECONDS
            return None
        # The bucket may also have segments of an abandoned history on a later timeline.
        is_same_timeline = self.last[:8] == self.arrived[:8]
        self.last = max(self.last, self.arrived) if is_same_timeline else self.arrived or self.last
        return self.last

    def _note(self, system: str, name: str) -> None:
        segment = segments.segment_from(name, self.source.segment_bytes)
        if system == self.source.system and segment and segment.timeline == self.source.timeline:
            self.arrived = max(self.arrived, name)


def _poll(uploader: _Uploader, session: Session, coverage: Coverage) -> Coverage:
    """Switch the segment if it has new transactions, upload the finished files, and return the new coverage."""
    now, source = uploader.world.clock.now(), uploader.source
    ((transactions,),) = session.ask("SELECT pg_current_snapshot()")
    if coverage.wants_switch(transactions, now):
        ((position,),) = session.ask("SELECT pg_switch_wal()")
        ended = segments.segment_before(segments.position_from(position), source.timeline, source.segment_bytes)
        coverage = coverage.after_switch(transactions, ended.name(source.segment_bytes), now)
    last = uploader.upload()
    if last is None:
        return coverage
    coverage = coverage.after_poll(transactions, last, now)
    if coverage.covered:
        _write_state(uploader.paths, Streamed(source.system, coverage.covered, last))
    return coverage


def _ensure_slot(world: World, session: Session) -> None:
    """Let PostgreSQL keep WAL until it is received. Only one receiver is allowed: that of a killed run is terminated."""
    found = session.ask(f"SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{SLOT}'")  # noqa: S608 - ours
    lost = [status for (status,) in found if status == "lost"]
    _terminate_receiver(session)
    if lost:
        world.tell("PostgreSQL could not keep all WAL: it has a gap until the next base backup")
        session.ask(f"SELECT pg_drop_replication_slot('{SLOT}')")
    if lost or not found:
        session.ask(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
        # Write to the current segment, so that it is switched and shipped even without other writes.
        session.ask("SELECT pg_create_restore_point('the stream begins')")


def _terminate_receiver(session: Session) -> None:
    """Terminate the server process of a former receiver, which may not have noticed yet that its client ended."""
    session.ask(
        f"SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots "  # noqa: S608 - ours
        f"WHERE slot_name = '{SLOT}' AND active_pid IS NOT NULL"
    )


def _written(paths: HostPaths, waiting: Waiting, source: WalSource) -> set[str]:
    """Return the names of this database's segments that were written according to this host's files and state."""
    state = state_of(paths)
    local = {name.removesuffix(segments.PARTIAL) for name in [*_names(waiting.received), *_names(waiting.encrypted)]}
    return local | ({state.shipped} if state and state.system == source.system else set())


def _reset(world: World, session: Session, paths: HostPaths, waiting: Waiting, system: str) -> None:
    """Restart the stream of a database that was set back: it writes segments with the same names and other content."""
    world.tell(
        "the database was set back to an earlier state: its WAL continues there, the next backup takes a base backup"
    )
    for file in [*waiting.received.iterdir(), *waiting.encrypted.iterdir()]:
        file.unlink(missing_ok=True)
    # The usual time limit starts now: being set back does not make the stream late.
    _write_state(paths, Streamed(system, world.clock.now(), ""))
    _terminate_receiver(session)
    session.ask(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'")  # noqa: S608 - ours


def _is_same(site: Site, world: World, waiting: Waiting, system: str, name: str, key: bytes) -> bool:
    """Return whether a waiting file equals the object with its name. A database that was set back writes names twice."""
    stored = world.aws.read_object(site.backup.bucket, segments.key_of(system, name))
    if (waiting.encrypted / name).exists():
        return (waiting.encrypted / name).read_bytes() == stored
    with suppress(OpsError):
        content = encryption.decompressed(encryption.decrypt(stored, key, segments.key_of(system, name)))
        return content == (waiting.received / name).read_bytes()
    return False


def _covered(paths: HostPaths, source: WalSource) -> datetime | None:
    state = state_of(paths)
    return state.covered if state and state.system == source.system else None


def _record_trouble(paths: HostPaths, trouble: str) -> None:
    state = state_of(paths)
    if state:
        _write_state(paths, Streamed(state.system, state.covered, state.shipped, trouble))


def _state(paths: HostPaths) -> Path:
    return paths.wal / "state.json"


def _write_state(paths: HostPaths, state: Streamed) -> None:
    """Replace the state atomically; after a power loss the previous one may be back."""
    partial = _state(paths).with_suffix(".partial")
    partial.write_text(segments.state_to_json(state), encoding="utf-8")
    partial.replace(_state(paths))


def _names(folder: Path) -> list[str]:
    # Without files that are still being written (ops/world/files.py).
    return [each.name for each in folder.iterdir() if not each.name.startswith(".")]
