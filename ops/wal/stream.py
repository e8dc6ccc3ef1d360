"""The database's log on its way to the bucket, all the time: received beside the database, sealed, sent, and only then let go.

PostgreSQL keeps the log until it was received (a replication slot), the host until it is in the bucket. Whoever is killed
anywhere finds by names alone what is left to do.
"""

from __future__ import annotations

from collections.abc import Collection
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
from ops.wal.base_backups import Log
from ops.wal.segments import Coverage, Streamed, Waiting
from ops.world import World
from ops.world import postgres as world_postgres
from ops.world.lock import exclusive
from ops.world.postgres import Session

SLOT = "gitea_suite"
_PACE_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0


def stream(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Bring the database's log into the bucket until someone ends this: what is committed arrives within the minute.

    A database or a bucket that is away is waited for, and told of in the state that ``ops health`` reads. Raises Locked
    while another stream runs.
    """
    paths = paths or HostPaths()
    paths.wal.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(paths.lock.with_name("wal.lock"), world.clock.now()):
        while True:
            try:
                _attend(site, world, paths)
            except OpsError as error:
                world.tell(f"{error.message}; trying again")
                _note(paths, error.message)
            world.clock.sleep(_PATIENCE_SECONDS)


def state_of(paths: HostPaths) -> Streamed | None:
    """Return what the stream said last of itself, None before it has said anything."""
    file = _state(paths)
    return segments.state_from_json(file.read_text(encoding="utf-8")) if file.exists() else None


def ship(
    site: Site, world: World, waiting: Waiting, system: str, key: bytes, shipped: Collection[str] = frozenset()
) -> str:
    """Bring into the bucket what was received wholly, and return the last name, or "" when there was nothing.

    ``shipped`` is what is there already, of a run that was cut off. Raises Unavailable when the bucket is out of reach:
    then all that was received waits, sealed.
    """
    received, sealed = _names(waiting.received), _names(waiting.sealed)
    plan = wal_plan.plan_shipping(received, sealed, shipped)
    for name in plan.drop_received:
        (waiting.received / name).unlink()
    for name in plan.seal:
        content = (waiting.received / name).read_bytes()
        world.files.write(waiting.sealed / name, encryption.encrypt(content, key, segments.key_of(system, name)))
        (waiting.received / name).unlink()
    for name in plan.drop_sealed:
        (waiting.sealed / name).unlink()
    last = ""
    for name in sorted(_names(waiting.sealed)):
        world.aws.write_object(site.backup.bucket, segments.key_of(system, name), (waiting.sealed / name).read_bytes())
        (waiting.sealed / name).unlink()
        last = name if segments.segment_from(name) else last
    return last


def ship_left_behind(site: Site, world: World, paths: HostPaths, key: bytes) -> None:
    """Bring into the bucket what an earlier run has left, of this database or of one that is no more; nothing twice.

    Raises Unavailable when the bucket is out of reach.
    """
    for folder in sorted(each for each in paths.wal.iterdir() if each.name.isdigit()):
        waiting = waiting_for(paths, folder.name)
        left = {name for name in [*_names(waiting.received), *_names(waiting.sealed)] if segments.is_finished(name)}
        there = left.intersection(base_backups.shipped(site, world, folder.name)) if left else set()
        same = {name for name in there if _is_same(site, world, waiting, folder.name, name, key)}
        ship(site, world, waiting, folder.name, key, same)


def waiting_for(paths: HostPaths, system: str) -> Waiting:
    """Return where the log of a database waits, made where it is not there."""
    found = Waiting(paths.wal / system)
    for folder in (found.received, found.sealed):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found


def _attend(site: Site, world: World, paths: HostPaths) -> None:
    """Receive and ship until something is away; raises OpsError then."""
    postgres = world.containers.name(paths.project, "postgres")
    (image,) = [each.image for each in world.containers.services(paths.project) if each.name == "postgres"]
    key, receiver = base_backups.key_of(paths.secrets), f"{paths.project}-wal"
    with world.postgres.session(postgres, "postgres") as session:
        log = base_backups.log_of(session)
        here = segments.Segment(base_backups.position_of(session) // log.segment_bytes, log.timeline)
        waiting = waiting_for(paths, log.system)
        world.containers.discard(receiver)
        if segments.is_taken_back(_known(paths, waiting, log), here, log.segment_bytes):
            _abandon(world, session, paths, waiting, log.system)
        _hold(world, session)
        program = world_postgres.receive_wal(postgres, image, waiting.received, slot=SLOT, name=receiver)
        way = _Way(site, world, paths, log, waiting, key, here)
        with world.processes.in_background(program) as companion:
            known = Coverage(_covered(paths, log))
            while not (ended := companion.ended()):
                known = _look(way, session, known)
                world.clock.sleep(_PACE_SECONDS)
    raise OpsError(f"pg_receivewal ended: {ended.output.strip()[-400:]}", "look at the log of postgres")


@dataclass
class _Way:
    """The way of a database's log into the bucket. One that is barred stops no one from receiving: what is received waits.

    ``last`` is the last segment that has arrived, None before anyone could ask; ``again`` is when to try next.
    """

    site: Site
    world: World
    paths: HostPaths
    log: Log
    waiting: Waiting
    key: bytes
    begin: segments.Segment
    last: str | None = None
    again: float = 0.0

    def bring(self) -> str | None:
        """Bring what is whole, at first what was left behind, and return the last that has arrived; None while that is barred."""
        if self.world.clock.monotonic() < self.again:
            return None
        try:
            if self.last is None:
                ship_left_behind(self.site, self.world, self.paths, self.key)
                there = base_backups.shipped(self.site, self.world, self.log.system)
                self.last = segments.last_before(there, self.begin, self.log.segment_bytes)
            self.last = ship(self.site, self.world, self.waiting, self.log.system, self.key) or self.last
        except OpsError as barred:
            self.world.tell(f"{barred.message}; the log is received and waits here; trying again")
            _note(self.paths, barred.message)
            self.again = self.world.clock.monotonic() + _PATIENCE_SECONDS
            return None
        return self.last


def _look(way: _Way, session: Session, known: Coverage) -> Coverage:
    """Do once what there is to do: end a segment that has been written to, bring what is whole."""
    now, log = way.world.clock.now(), way.log
    ((transactions,),) = session.ask("SELECT pg_current_snapshot()")
    if known.wants_switch(transactions, now):
        ((position,),) = session.ask("SELECT pg_switch_wal()")
        ended = segments.segment_before(segments.position_from(position), log.timeline, log.segment_bytes)
        known = known.after_switch(transactions, ended.name(log.segment_bytes), now)
    last = way.bring()
    if last is None:
        return known
    known = known.after_look(transactions, last, now)
    if known.covered:
        _write_state(way.paths, Streamed(log.system, known.covered, last))
    return known


def _hold(world: World, session: Session) -> None:
    """Have PostgreSQL keep what is not received yet. One receiver at a time: that of a run that was killed is sent away."""
    found = session.ask(f"SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{SLOT}'")  # noqa: S608 - ours
    lost = [status for (status,) in found if status == "lost"]
    _send_away(session)
    if lost:
        world.tell("the database could not keep its log any longer: there is a gap in it, until the next base")
        session.ask(f"SELECT pg_drop_replication_slot('{SLOT}')")
    if lost or not found:
        session.ask(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
        # Something of the segment that is written to now, so that it is ended and sent even if nothing else comes.
        session.ask("SELECT pg_create_restore_point('the stream begins')")


def _send_away(session: Session) -> None:
    """Whoever receives is not who is about to, and may not know yet that it has ended."""
    session.ask(
        f"SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots "  # noqa: S608 - ours
        f"WHERE slot_name = '{SLOT}' AND active_pid IS NOT NULL"
    )


def _known(paths: HostPaths, waiting: Waiting, log: Log) -> set[str]:
    """The segments of this database that this host knows to have been written to."""
    said = state_of(paths)
    local = {name.removesuffix(segments.PARTIAL) for name in [*_names(waiting.received), *_names(waiting.sealed)]}
    return local | ({said.shipped} if said and said.system == log.system else set())


def _abandon(world: World, session: Session, paths: HostPaths, waiting: Waiting, system: str) -> None:
    """Begin anew with a database that was taken back: it writes segments of the same names, with other content."""
    world.tell(
        "the database was taken back to an earlier state; its log goes on from there, the next backup takes a base"
    )
    for file in [*waiting.received.iterdir(), *waiting.sealed.iterdir()]:
        file.unlink(missing_ok=True)
    # From here on it is given the time that any log has to arrive: a site that was taken back is not ill for that.
    _write_state(paths, Streamed(system, world.clock.now(), ""))
    _send_away(session)
    session.ask(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'")  # noqa: S608 - ours


def _is_same(site: Site, world: World, waiting: Waiting, system: str, name: str, key: bytes) -> bool:
    """Whether what waits is what the bucket has under its name. A database that was taken back writes names twice."""
    there = world.aws.read_object(site.backup.bucket, segments.key_of(system, name))
    if (waiting.sealed / name).exists():
        return (waiting.sealed / name).read_bytes() == there
    with suppress(OpsError):
        content = encryption.unpacked(encryption.decrypt(there, key, segments.key_of(system, name)))
        return content == (waiting.received / name).read_bytes()
    return False


def _covered(paths: HostPaths, log: Log) -> datetime | None:
    known = state_of(paths)
    return known.covered if known and known.system == log.system else None


def _note(paths: HostPaths, trouble: str) -> None:
    known = state_of(paths)
    if known:
        _write_state(paths, Streamed(known.system, known.covered, known.shipped, trouble))


def _state(paths: HostPaths) -> Path:
    return paths.wal / "state.json"


def _write_state(paths: HostPaths, state: Streamed) -> None:
    """Whole or not at all; after a loss of power it may be the one before."""
    partial = _state(paths).with_suffix(".partial")
    partial.write_text(segments.state_to_json(state), encoding="utf-8")
    partial.replace(_state(paths))


def _names(folder: Path) -> list[str]:
    # Without what is still being written (ops/world/files.py).
    return [each.name for each in folder.iterdir() if not each.name.startswith(".")]
