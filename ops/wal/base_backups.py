"""Base backups: a daily copy of the database's files, which WAL recovers to any later moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ops.config.schema import Site
from ops.errors import OpsError, Unavailable
from ops.wal import encryption, plan, segments
from ops.wal.plan import Gap
from ops.wal.segments import BaseBackup
from ops.world import World
from ops.world import postgres as world_postgres
from ops.world.postgres import Session
from ops.world.restic import Restic

TAG, ARCHIVE = "base", "base.tar"


@dataclass(frozen=True)
class WalSource:
    """The database that writes WAL: its system identifier, its timeline, and the size of its segments in bytes."""

    system: str
    timeline: int
    segment_bytes: int


def wal_source_of(session: Session) -> WalSource:
    """Return a database's system identifier, timeline and segment size."""
    ((system, timeline, size),) = session.ask(
        "SELECT system_identifier, timeline_id, setting FROM pg_control_system(), pg_control_checkpoint(), pg_settings "
        "WHERE name = 'wal_segment_size'"
    )
    return WalSource(system, int(timeline), int(size))


def encryption_key(secrets: Path) -> bytes:
    """Return the key that encrypts the WAL; raises OpsError before the secrets were fetched."""
    password = secrets / "restic-password"
    if not password.exists():
        raise OpsError("the secret restic-password is missing", "run ops secrets fetch")
    return encryption.key_from(password.read_text(encoding="utf-8").strip())


def list_base_backups(site: Site, world: World, *, skip_unreadable: bool = False) -> tuple[BaseBackup, ...]:
    """Return the base backups with a record in the bucket, oldest first.

    Raises OpsError for an unreadable record unless ``skip_unreadable``. A prune must not skip any: it removes base backups
    without a record.
    """
    found = []
    for key in world.aws.objects(site.backup.bucket, segments.BASES):
        try:
            found.append(segments.base_from_json(world.aws.read_object(site.backup.bucket, key)))
        except Unavailable:
            raise
        except OpsError as unreadable:
            if not skip_unreadable:
                hint = f"remove it, unless a newer suite wrote it: aws s3 rm s3://{site.backup.bucket}/{key}"
                raise OpsError(f"{key}: {unreadable.message}", hint, left_as=unreadable.left_as) from unreadable
            world.tell(f"skipped: {key}: {unreadable.message}")
    return tuple(found)


def shipped(site: Site, world: World, system: str, *, since: BaseBackup | None = None) -> tuple[str, ...]:
    """Return the names of a database's segments and history files in the bucket.

    With ``since``, segments of that base backup's timeline before its start are left out.
    """
    prefix = f"{segments.PREFIX}{system}/"
    first = (
        segments.Segment(since.start // since.segment_bytes, since.timeline).name(since.segment_bytes)[:-1]
        if since
        else ""
    )
    keys = world.aws.objects(site.backup.bucket, prefix, after=segments.key_of(system, first) if first else "")
    return tuple(segments.name_from(key) for key in keys)


def refresh(site: Site, world: World, local: Restic, remote: Restic, postgres: str) -> BaseBackup | None:
    """Take a base backup into both repositories when one is due, and return it. Raises OpsError when it cannot be stored."""
    with world.postgres.session(postgres, "postgres") as session:
        source = wal_source_of(session)
        if not _is_due(site, world, source, position_of(session)):
            return None
        world.tell("a base backup of the database is due: copying its files")
        now, before = world.clock.now(), position_of(session)
        stored = local.store_output(world_postgres.base_backup(postgres), filename=ARCHIVE, host=site.name, tags=[TAG])
        after = position_of(session)
        # Without a switch, the WAL that it needs would be shipped only after the next write.
        session.ask("SELECT pg_switch_wal()")
        ((version,),) = session.ask("SHOW server_version")
    remote.copy([stored.snapshot], local)
    arrived = [each.identity for each in remote.snapshots(TAG) if each.original == stored.snapshot]
    if not arrived:
        raise OpsError("the base backup did not arrive in the bucket", "run ops backup take again")
    made = BaseBackup(
        f"{now:%Y%m%dT%H%M%SZ}",
        source.system,
        source.timeline,
        before,
        after,
        now,
        stored.snapshot,
        arrived[0],
        stored.size,
        version,
        source.segment_bytes,
    )
    world.aws.write_object(site.backup.bucket, f"{segments.BASES}{made.identity}.json", segments.base_to_json(made))
    return made


def _is_due(site: Site, world: World, source: WalSource, position: int) -> bool:
    available = list_base_backups(site, world, skip_unreadable=True)
    if plan.base_backup_due(available, source.system, source.timeline, world.clock.now()):
        return True
    last = _newest(available, source.system)
    if last.end > position:
        world.tell("the database was set back to a state before its last base backup")
        return True
    try:
        plan.plan_replay([last], shipped(site, world, source.system, since=last), source.system, None)
    except Gap as gap:
        world.tell(f"{gap.message}: a new base backup is needed")
        return True
    except OpsError:
        # WAL that has not arrived yet is up to the stream; a base backup would not help.
        return False
    return False


def _newest(base_backups: Iterable[BaseBackup], system: str) -> BaseBackup:
    return max((each for each in base_backups if each.system == system), key=lambda each: each.moment)


def position_of(session: Session) -> int:
    """Return the position up to which a database has written its WAL."""
    ((text,),) = session.ask("SELECT pg_current_wal_lsn()")
    return segments.position_from(text)
