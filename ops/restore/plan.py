"""The request of a restore, its preconditions, and the plan that the operator confirms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.backup import manifest
from ops.backup.manifest import Manifest
from ops.errors import Refused
from ops.model import in_bytes
from ops.wal import plan as wal_plan
from ops.wal import segments
from ops.wal.plan import ReplayPlan
from ops.wal.segments import BaseBackup

# Factor on the size of the data, for the file system's metadata.
_OVERHEAD = 1.1


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore: a backup by its identity, else the newest at or before ``at``, else the newest of all.

    ``repository`` (owner/name) restores that repository alone. ``dry_run`` only returns the plan. ``from_wal`` recovers the
    database of the backup's moment from a base backup and WAL instead of the dump. ``newest_database`` recovers the newest
    one from them, on the backup's data. ``full_copy`` fetches the data even if its snapshot is still on the data disk.
    """

    identity: str = ""
    at: datetime | None = None
    repository: str = ""
    dry_run: bool = False
    from_wal: bool = False
    newest_database: bool = False
    full_copy: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """The parts of a backup that the restore needs: one repository needs its data alone."""
        if self.repository:
            return ("data",)
        unneeded = ("database",) if self.from_wal or self.newest_database else ()
        return tuple(each for each in manifest.PARTS if each not in unneeded)


@dataclass(frozen=True)
class RestorePreconditions:
    """The state before a restore: Gitea's version, free bytes on the data disk, a digest of the SECRET_KEY in use.

    ``snapshot`` is the snapshot that the backup was stored from, if it is still on the data disk and may be used.
    """

    version: str
    free: int
    secret_key: str
    snapshot: Path | None = None


def blockers(chosen: Manifest, preconditions: RestorePreconditions, base: int = 0) -> tuple[str, ...]:
    """Return each reason not to restore, with its remedy; ``base`` is the size in bytes of a base backup to fetch."""
    problems = []
    if order(preconditions.version) < order(chosen.versions["gitea"]):
        problems.append(
            f"the backup is of Gitea {chosen.versions['gitea']}, {preconditions.version} runs here and refuses a newer database: "
            f"ops update gitea --to {chosen.versions['gitea']} (on a new host: name it in compose/images.env and deploy), then restore"
        )
    if preconditions.secret_key != chosen.secret_key:
        problems.append(
            "the backup was made with another SECRET_KEY; without it, two-factor secrets, mirrors' passwords and Actions "
            'secrets cannot be read: docs/runbooks/restore.md, "Another SECRET_KEY"'
        )
    if shortage := check_free_space(chosen, preconditions.free, base, has_snapshot=preconditions.snapshot is not None):
        problems.append(shortage)
    return tuple(problems)


def check_free_space(chosen: Manifest, free: int, base: int, *, has_snapshot: bool) -> str:
    """Return why the data disk has too little space for a backup beside the site, or "". Data from a snapshot needs none."""
    data = 0 if has_snapshot else int(chosen.parts["data"].size * _OVERHEAD)
    needed = data + chosen.parts["database"].size + base
    if free >= needed:
        return ""
    return (
        f"{in_bytes(free)} are free on the data disk, the backup needs {in_bytes(needed)} beside the site: "
        "free some, or enlarge host.data_gib and deploy"
    )


def plan_restore(
    chosen: Manifest, preconditions: RestorePreconditions, request: RestoreRequest, now: datetime
) -> tuple[str, ...]:
    """Return the plan of a restore, which the operator reads before confirming."""
    age = now - chosen.moment
    what = f"repository {request.repository}" if request.repository else f"{chosen.domain}, the whole site"
    data = f"{in_bytes(chosen.parts['data'].size)} with {len(chosen.repositories)} repositories"
    rest = in_bytes(sum(part.size for name, part in chosen.parts.items() if name != "data"))
    lines = [
        f"restored: {what}, as it was at {chosen.moment:%Y-%m-%d %H:%M:%S} UTC (backup {chosen.identity})",
        f"fetched: {rest} of database and settings"
        if preconditions.snapshot
        else f"fetched: data, {data}; {rest} of database and settings",
        f"lost: the data written since, {_duration(age.total_seconds())}; it is kept aside until the next restore",
    ]
    if preconditions.snapshot:
        lines.append(
            f"cloned: data, {data}, from its snapshot, which is still on the data disk; --full-copy fetches it from the "
            "repository instead"
        )
    if order(preconditions.version) > order(chosen.versions["gitea"]):
        lines.append(
            f"migrated: the database, from Gitea {chosen.versions['gitea']} to {preconditions.version}, as Gitea starts"
        )
    if not request.repository:
        lines.append(
            "unavailable: Gitea, from the switch until it is healthy again; fetching before that does not interrupt it"
        )
    return tuple(lines)


def plan_wal(chosen: Manifest, bases: Iterable[BaseBackup], names: Iterable[str], *, newest: bool) -> ReplayPlan:
    """Return how to recover the database of a backup's moment, or the newest, from base backup and WAL.

    Raises Refused if they do not reach it.
    """
    return wal_plan.plan_replay(
        bases, names, chosen.system, None if newest else segments.position_from(chosen.position)
    )


def require_reader(replaying: ReplayPlan, tag: str) -> None:
    """Raise Refused if the PostgreSQL of a tag cannot replay the WAL: it has to be the major version that wrote it."""
    wrote, reads = (order(version)[0] for version in (replaying.base.version, tag))
    if wrote != reads:
        raise Refused(
            f"PostgreSQL {wrote} wrote that WAL, and {reads} runs here, which cannot read it",
            "restore the backup's dump: ops restore without --from-wal and --newest-database",
            left_as="nothing was changed",
        )


def wal_lines(chosen: Manifest, replaying: ReplayPlan, *, newest: bool) -> tuple[str, ...]:
    """Return the plan's lines about a database that is recovered from WAL."""
    base = replaying.base
    until = "its end" if replaying.stop is None else f"position {segments.position_as_text(replaying.stop)}"
    names = len(replaying.names)
    lines = [f"database: base backup {base.identity} ({in_bytes(base.size)}) and {names} WAL files, until {until}"]
    if newest:
        lines.append(
            f"may disagree: the database is as new as its WAL, the repositories are of {chosen.moment:%Y-%m-%d %H:%M:%S} UTC. "
            "Issues, comments and accounts since then are restored. Pushes since then are not, though the database may show "
            "them, and a repository created since then has no content"
        )
    return tuple(lines)


def order(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, which compare as the versions do."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, hours = divmod(minutes // 60, 24)
    return f"{days} days {hours} h" if days else f"{hours} h {minutes % 60} min"
