"""Recover a database from a base backup and WAL, in an isolated scratch container, to any moment since the base backup."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ops.config.schema import Site
from ops.errors import OpsError
from ops.wal import base_backups, encryption, segments
from ops.wal.plan import ReplayPlan
from ops.wal.segments import Waiting
from ops.world import World
from ops.world.restic import Restic


@dataclass(frozen=True)
class ReplayTarget:
    """Where a replay works: its own folder, the container's name, the image of the database, and the key of the WAL.

    ``unshipped`` has the names of the WAL files that are in ``waiting`` on this host and not in the bucket.
    """

    folder: Path
    container: str
    image: str
    key: bytes
    waiting: Waiting
    unshipped: frozenset[str] = frozenset()


def unshipped_names(waiting: Waiting) -> frozenset[str]:
    """Return the names of a database's WAL files on this host, including the unfinished segment."""
    folders = [folder for folder in (waiting.received, waiting.encrypted) if folder.is_dir()]
    names = {file.name.removesuffix(segments.PARTIAL) for folder in folders for file in folder.iterdir()}
    return frozenset(name for name in names if segments.is_finished(name))


@contextmanager
def recovered_database(
    site: Site, world: World, plan: ReplayPlan, source: Restic, target: ReplayTarget
) -> Iterator[str]:
    """Recover the database of a plan and yield the name of its container, which is removed after the block.

    Raises OpsError when the base backup or WAL cannot be read or PostgreSQL cannot recover from them.
    """
    clear(world, target.folder, target.container)
    try:
        owner = _fetch_base(world, plan, source, target)
        _fetch_wal(site, world, plan, target)
        signal = target.folder / "data/recovery.signal"
        signal.touch(mode=0o600)
        os.chown(signal, *owner)
        world.containers.start_program(
            target.image,
            ["postgres", "-D", "/replay/data", *_settings(plan)],
            name=target.container,
            user=f"{owner[0]}:{owner[1]}",
            folder=target.folder,
            target="/replay",
        )
        _await_end(world, target)
        yield target.container
    finally:
        clear(world, target.folder, target.container)


def clear(world: World, folder: Path, container: str) -> None:
    """Remove the container and the folder of a replay, if they exist."""
    world.containers.discard(container)
    world.btrfs.remove(folder)


def last_transaction(world: World, container: str) -> str:
    """Return the end of the last replayed transaction, as PostgreSQL formats it, "" without replayed transactions."""
    with world.postgres.session(container, "postgres") as session:
        ((when,),) = session.ask("SELECT coalesce(pg_last_xact_replay_timestamp()::timestamptz(0)::text, '')")
    return when


def _fetch_base(world: World, plan: ReplayPlan, source: Restic, target: ReplayTarget) -> tuple[int, int]:
    data = target.folder / "data"
    target.folder.mkdir(mode=0o711)
    data.mkdir(mode=0o700)
    snapshot = (
        plan.base.local if plan.base.local in {each.identity for each in source.snapshots()} else plan.base.remote
    )
    unpack = ["tar", "--extract", "--same-owner", "--numeric-owner", f"--directory={data}"]
    source.dump_into(snapshot, base_backups.ARCHIVE, unpack, world.tell)
    owner = (data / "PG_VERSION").stat()
    os.chown(data, owner.st_uid, owner.st_gid)
    return owner.st_uid, owner.st_gid


def _fetch_wal(site: Site, world: World, plan: ReplayPlan, target: ReplayTarget) -> None:
    """Fetch the WAL, still compressed: that needs far less disk space, and PostgreSQL reads one segment after the other."""
    folder = target.folder / "wal"
    folder.mkdir(mode=0o755)
    for name in plan.names:
        file = folder / f"{name}.gz"
        file.write_bytes(_compressed(site, world, plan.base.system, name, target))
        file.chmod(0o644)


def _compressed(site: Site, world: World, system: str, name: str, target: ReplayTarget) -> bytes:
    key, waiting = segments.key_of(system, name), target.waiting
    # In the order in which the stream moves a file on: it does not wait for a replay.
    places = (waiting.received / f"{name}{segments.PARTIAL}", waiting.received / name, waiting.encrypted / name)
    for file in places if name in target.unshipped else ():
        with suppress(FileNotFoundError):
            content = file.read_bytes()
            return (
                encryption.decrypt(content, target.key, key)
                if encryption.is_encrypted(content)
                else gzip.compress(content, compresslevel=1)
            )
    return encryption.decrypt(world.aws.read_object(site.backup.bucket, key), target.key, key)


def _settings(plan: ReplayPlan) -> list[str]:
    settings = {
        "restore_command": 'test -f "/replay/wal/%f.gz" && gunzip -c "/replay/wal/%f.gz" >"%p"',
        "listen_addresses": "",
        "hot_standby": "on",
        # The database is discarded after it was read.
        "fsync": "off",
        "full_page_writes": "off",
    }
    if plan.stop is not None:
        # Replay everything before the position, and no record that starts at it.
        settings |= {
            "recovery_target_lsn": segments.position_as_text(plan.stop),
            "recovery_target_inclusive": "off",
            "recovery_target_action": "promote",
        }
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _await_end(world: World, target: ReplayTarget) -> None:
    """Wait without a time limit until recovery has finished; raises OpsError when the container ends."""
    while True:
        ended = world.containers.exit_log(target.container)
        if ended:
            raise OpsError(
                f"PostgreSQL cannot recover from the base backup and WAL: {ended[-600:]}",
                "restore the dump of a backup instead: ops restore",
            )
        with suppress(OpsError), world.postgres.session(target.container, "postgres") as session:
            ((recovering,),) = session.ask("SELECT pg_is_in_recovery()")
            if recovering == "f":
                return
        world.clock.sleep(0.5)
