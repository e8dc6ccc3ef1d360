"""A database out of a base and its log, in a scratch container that no one reaches: the database of any moment since the base."""

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
    """Where a replay works: a folder of its own, an image of the database, a container's name, and the key of the log.

    ``left`` are the files of the log that are in ``waiting`` on this host and were not in the bucket.
    """

    folder: Path
    container: str
    image: str
    key: bytes
    waiting: Waiting
    left: frozenset[str] = frozenset()


def left_in(waiting: Waiting) -> frozenset[str]:
    """Return what this host still has of a database's log, by name: even the segment that is not whole."""
    folders = [folder for folder in (waiting.received, waiting.sealed) if folder.is_dir()]
    names = {file.name.removesuffix(segments.PARTIAL) for folder in folders for file in folder.iterdir()}
    return frozenset(name for name in names if segments.is_finished(name))


@contextmanager
def database_of(site: Site, world: World, plan: ReplayPlan, source: Restic, place: ReplayTarget) -> Iterator[str]:
    """Make the database of a plan and yield the name of the container it runs in; it is removed after the block.

    Raises OpsError when the base or a part of the log cannot be read, or does not make a database.
    """
    clear(world, place.folder, place.container)
    try:
        owner = _fetch_base(world, plan, source, place)
        _fetch_log(site, world, plan, place)
        signal = place.folder / "data/recovery.signal"
        signal.touch(mode=0o600)
        os.chown(signal, *owner)
        world.containers.start_program(
            place.image,
            ["postgres", "-D", "/replay/data", *_settings(plan)],
            name=place.container,
            user=f"{owner[0]}:{owner[1]}",
            folder=place.folder,
            target="/replay",
        )
        _await_end(world, place)
        yield place.container
    finally:
        clear(world, place.folder, place.container)


def clear(world: World, folder: Path, container: str) -> None:
    """Remove what a replay has made; nothing is no error."""
    world.containers.discard(container)
    world.btrfs.remove(folder)


def until(world: World, container: str) -> str:
    """Return when the last transaction ended that a replayed database has, in PostgreSQL's words, "" when it has none."""
    with world.postgres.session(container, "postgres") as session:
        ((when,),) = session.ask("SELECT coalesce(pg_last_xact_replay_timestamp()::timestamptz(0)::text, '')")
    return when


def _fetch_base(world: World, plan: ReplayPlan, source: Restic, place: ReplayTarget) -> tuple[int, int]:
    data = place.folder / "data"
    place.folder.mkdir(mode=0o711)
    data.mkdir(mode=0o700)
    snapshot = (
        plan.base.local if plan.base.local in {each.identity for each in source.snapshots()} else plan.base.remote
    )
    unpack = ["tar", "--extract", "--same-owner", "--numeric-owner", f"--directory={data}"]
    source.dump_into(snapshot, base_backups.ARCHIVE, unpack, world.tell)
    known = (data / "PG_VERSION").stat()
    os.chown(data, known.st_uid, known.st_gid)
    return known.st_uid, known.st_gid


def _fetch_log(site: Site, world: World, plan: ReplayPlan, place: ReplayTarget) -> None:
    """Packed as it was sealed: whole segments would need far more room, and PostgreSQL asks for one after the other."""
    folder = place.folder / "wal"
    folder.mkdir(mode=0o755)
    for name in plan.names:
        file = folder / f"{name}.gz"
        file.write_bytes(_packed(site, world, plan.base.system, name, place))
        file.chmod(0o644)


def _packed(site: Site, world: World, system: str, name: str, place: ReplayTarget) -> bytes:
    key, waiting = segments.key_of(system, name), place.waiting
    # In the order in which a file moves on: the stream does not wait for a replay.
    steps = (waiting.received / f"{name}{segments.PARTIAL}", waiting.received / name, waiting.sealed / name)
    for step in steps if name in place.left else ():
        with suppress(FileNotFoundError):
            content = step.read_bytes()
            return (
                encryption.decrypt(content, place.key, key)
                if encryption.is_sealed(content)
                else gzip.compress(content, compresslevel=1)
            )
    return encryption.decrypt(world.aws.read_object(site.backup.bucket, key), place.key, key)


def _settings(plan: ReplayPlan) -> list[str]:
    settings = {
        "restore_command": 'test -f "/replay/wal/%f.gz" && gunzip -c "/replay/wal/%f.gz" >"%p"',
        "listen_addresses": "",
        "hot_standby": "on",
        # It is thrown away when it was read.
        "fsync": "off",
        "full_page_writes": "off",
    }
    if plan.stop is not None:
        # Everything before the position, and nothing that begins there.
        settings |= {
            "recovery_target_lsn": segments.position_as_text(plan.stop),
            "recovery_target_inclusive": "off",
            "recovery_target_action": "promote",
        }
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _await_end(world: World, place: ReplayTarget) -> None:
    """Replaying takes as long as it takes; it ends when it is done, or with the container."""
    while True:
        ended = world.containers.exit_log(place.container)
        if ended:
            raise OpsError(
                f"base and log do not make a database: {ended[-600:]}", "restore the dump of a backup: ops restore"
            )
        with suppress(OpsError), world.postgres.session(place.container, "postgres") as session:
            ((recovering,),) = session.ask("SELECT pg_is_in_recovery()")
            if recovering == "f":
                return
        world.clock.sleep(0.5)
