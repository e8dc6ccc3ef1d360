"""Bases: once a day a copy of the database's files, from which its log makes the database of any later moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ops.config.schema import Site
from ops.errors import OpsError, Unavailable
from ops.wal import encryption, plan, segments
from ops.wal.plan import Gap
from ops.wal.segments import Base
from ops.world import World
from ops.world import postgres as world_postgres
from ops.world.postgres import Session
from ops.world.restic import Restic

TAG, ARCHIVE = "base", "base.tar"


@dataclass(frozen=True)
class Log:
    """Whose log it is: the database's own number, the timeline it writes on, and the size of its segments in bytes."""

    system: str
    timeline: int
    segment_bytes: int


def log_of(session: Session) -> Log:
    """Return whose log a database writes."""
    ((system, timeline, size),) = session.ask(
        "SELECT system_identifier, timeline_id, setting FROM pg_control_system(), pg_control_checkpoint(), pg_settings "
        "WHERE name = 'wal_segment_size'"
    )
    return Log(system, int(timeline), int(size))


def key_of(secrets: Path) -> bytes:
    """Return the key that the log is sealed with; raises OpsError before the secrets are there."""
    password = secrets / "restic-password"
    if not password.exists():
        raise OpsError("the secret restic-password is not there", "ops secrets fetch")
    return encryption.key_from(password.read_text(encoding="utf-8").strip())


def recorded(site: Site, world: World, *, pass_over: bool = False) -> tuple[Base, ...]:
    """Return the bases that the bucket tells of, oldest first.

    Raises OpsError for a record that cannot be read, unless such are to be passed over: who removes what no record tells of
    has to know them all.
    """
    found = []
    for key in world.aws.objects(site.backup.bucket, segments.BASES):
        try:
            found.append(segments.base_from_json(world.aws.read_object(site.backup.bucket, key)))
        except Unavailable:
            raise
        except OpsError as unread:
            if not pass_over:
                hide = f"if nothing newer wrote it, take it away: aws s3 rm s3://{site.backup.bucket}/{key}"
                raise OpsError(f"{key}: {unread.message}", hide) from unread
            world.tell(f"passed over: {key}: {unread.message}")
    return tuple(found)


def shipped(site: Site, world: World, system: str, *, since: Base | None = None) -> tuple[str, ...]:
    """Return the names of a database's segments and histories in the bucket; of one base's timeline, those it needs."""
    prefix = f"{segments.PREFIX}{system}/"
    first = (
        segments.Segment(since.start // since.segment_bytes, since.timeline).name(since.segment_bytes)[:-1]
        if since
        else ""
    )
    keys = world.aws.objects(site.backup.bucket, prefix, after=segments.key_of(system, first) if first else "")
    return tuple(segments.name_from(key) for key in keys)


def refresh(site: Site, world: World, local: Restic, remote: Restic, postgres: str) -> Base | None:
    """Take a base into both repositories when one is due, and return it. Raises OpsError when it could not be stored."""
    with world.postgres.session(postgres, "postgres") as session:
        log = log_of(session)
        if not _is_due(site, world, log, position_of(session)):
            return None
        world.tell("a base of the database is due: copying its files")
        now, before = world.clock.now(), position_of(session)
        stored = local.store_output(world_postgres.base_backup(postgres), filename=ARCHIVE, host=site.name, tags=[TAG])
        after = position_of(session)
        # What it needs of the log is not to wait for the next write.
        session.ask("SELECT pg_switch_wal()")
        ((version,),) = session.ask("SHOW server_version")
    remote.copy([stored.snapshot], local)
    there = [each.identity for each in remote.snapshots(TAG) if each.original == stored.snapshot]
    if not there:
        raise OpsError("the base did not arrive in the bucket", "run the backup again")
    made = Base(
        f"{now:%Y%m%dT%H%M%SZ}",
        log.system,
        log.timeline,
        before,
        after,
        now,
        stored.snapshot,
        there[0],
        stored.size,
        version,
        log.segment_bytes,
    )
    world.aws.write_object(site.backup.bucket, f"{segments.BASES}{made.identity}.json", segments.base_to_json(made))
    return made


def _is_due(site: Site, world: World, log: Log, position: int) -> bool:
    known = recorded(site, world, pass_over=True)
    if plan.base_due(known, log.system, log.timeline, world.clock.now()):
        return True
    last = _newest(known, log.system)
    if last.end > position:
        world.tell("the database was taken back to before its last base")
        return True
    try:
        plan.plan_replay([last], shipped(site, world, log.system, since=last), log.system, None)
    except Gap as gap:
        world.tell(f"{gap.message}: only a new base leads over it")
        return True
    except OpsError:
        # The log is not there yet: the stream's matter, and not a base's.
        return False
    return False


def _newest(known: Iterable[Base], system: str) -> Base:
    return max((each for each in known if each.system == system), key=lambda each: each.moment)


def position_of(session: Session) -> int:
    """Return the position that a database has written its log up to."""
    ((text,),) = session.ask("SELECT pg_current_wal_lsn()")
    return segments.position_from(text)
