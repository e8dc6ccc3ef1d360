"""What a restore is asked to do, what it depends on, and the plan that the operator agrees to."""

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

# More than the data itself, for what a file system keeps of its own.
_ROOM = 1.1


@dataclass(frozen=True)
class RestoreRequest:
    """What is to be restored: a backup by its identity, else the newest at or before ``at``, else the newest of all.

    With ``repository`` (owner/name) it is that repository alone. ``dry_run`` only tells the plan. With ``from_wal`` the
    database is made of a base and its log instead of the dump, as it was at the same moment; with ``newest_database`` it is
    the newest that they make, on the data of the backup. With ``full_copy`` the data is fetched and written anew even where the
    picture that it was stored from is still on the data disk.
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
        """Which parts of a backup the restore cannot do without."""
        spared = ("database",) if self.from_wal or self.newest_database else ()
        return tuple(each for each in manifest.PARTS if each not in spared)


@dataclass(frozen=True)
class RestorePreconditions:
    """What there is before a restore: Gitea's version here, room on the data disk in bytes, a digest of the SECRET_KEY in use.

    ``picture`` is what the backup's data was stored from, where that is on the data disk and to be used.
    """

    version: str
    free: int
    secret_key: str
    picture: Path | None = None


def blockers(chosen: Manifest, facts: RestorePreconditions, base: int = 0) -> tuple[str, ...]:
    """Return each reason not to restore, with what would remove it; ``base`` is the size of a base that is needed, too."""
    problems = []
    if order(facts.version) < order(chosen.versions["gitea"]):
        problems.append(
            f"the backup is of Gitea {chosen.versions['gitea']}, {facts.version} runs here and refuses a newer database: "
            f"ops update gitea --to {chosen.versions['gitea']} (on a new host: name it in compose/images.env and deploy), then restore"
        )
    if facts.secret_key != chosen.secret_key:
        problems.append(
            "the backup was made under another SECRET_KEY, without which two-factor secrets, mirrors' passwords and Actions "
            'secrets cannot be read: docs/runbooks/restore.md, "Another SECRET_KEY"'
        )
    if lacking := check_room(chosen, facts.free, base, photographed=facts.picture is not None):
        problems.append(lacking)
    return tuple(problems)


def check_room(chosen: Manifest, free: int, base: int, *, photographed: bool) -> str:
    """Return why there is not room for a backup beside the site, or nothing; its data needs none where its picture is there."""
    data = 0 if photographed else int(chosen.parts["data"].size * _ROOM)
    needed = data + chosen.parts["database"].size + base
    if free >= needed:
        return ""
    return (
        f"{in_bytes(free)} are free on the data disk, the backup needs {in_bytes(needed)} beside the site: "
        "make room, or enlarge host.data_gib and deploy"
    )


def plan_restore(
    chosen: Manifest, facts: RestorePreconditions, request: RestoreRequest, now: datetime
) -> tuple[str, ...]:
    """Return what a restore will do, as a person has to read it before agreeing."""
    age = now - chosen.moment
    what = f"repository {request.repository}" if request.repository else f"{chosen.domain}, whole"
    data = f"{in_bytes(chosen.parts['data'].size)} with {len(chosen.repositories)} repositories"
    rest = in_bytes(sum(part.size for name, part in chosen.parts.items() if name != "data"))
    lines = [
        f"restored: {what}, as it was at {chosen.moment:%Y-%m-%d %H:%M:%S} UTC (backup {chosen.identity})",
        f"fetched: {rest} of database and settings"
        if facts.picture
        else f"fetched: data, {data}; {rest} of database and settings",
        f"lost: what was written since, {_span(age.total_seconds())}; it is kept aside until the next restore",
    ]
    if facts.picture:
        lines.append(
            f"taken: data, {data}, from the picture that it was stored from, which is still on the data disk; with --full-copy "
            "it is brought from the repository and written anew"
        )
    if order(facts.version) > order(chosen.versions["gitea"]):
        lines.append(
            f"migrated: the database, from Gitea {chosen.versions['gitea']} to {facts.version}, as Gitea starts"
        )
    if not request.repository:
        lines.append("away: Gitea, from the switch until it is healthy again; the fetching before that disturbs no one")
    return tuple(lines)


def plan_wal(chosen: Manifest, known: Iterable[BaseBackup], names: Iterable[str], *, newest: bool) -> ReplayPlan:
    """Return how base and log make the database of a backup's moment, or the newest; raises Refused when they do not."""
    return wal_plan.plan_replay(
        known, names, chosen.system, None if newest else segments.position_from(chosen.position)
    )


def require_reader(replaying: ReplayPlan, tag: str) -> None:
    """Raise Refused when the PostgreSQL of a tag cannot replay a log: no major version reads another's."""
    wrote, reads = (order(version)[0] for version in (replaying.base.version, tag))
    if wrote != reads:
        raise Refused(
            f"PostgreSQL {wrote} wrote that log, and {reads} runs here, which cannot read it",
            "restore the backup's dump: ops restore without --from-wal and --newest-database",
        )


def wal_lines(chosen: Manifest, replaying: ReplayPlan, *, newest: bool) -> tuple[str, ...]:
    """Return what a person has to read of a restore that takes the database from its log."""
    base = replaying.base
    until = "its end" if replaying.stop is None else f"position {segments.position_as_text(replaying.stop)}"
    names = len(replaying.names)
    lines = [f"database: base {base.identity} ({in_bytes(base.size)}) and {names} files of its log, until {until}"]
    if newest:
        lines.append(
            f"may disagree: the database is as new as its log, the repositories are of {chosen.moment:%Y-%m-%d %H:%M:%S} UTC. "
            "Issues, comments and accounts since are there; pushes since are not, though the database may tell of them, and a "
            "repository that was made since has no content"
        )
    return tuple(lines)


def order(version: str) -> tuple[int, ...]:
    """Return a version as numbers that compare in its order."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, hours = divmod(minutes // 60, 24)
    return f"{days} days {hours} h" if days else f"{hours} h {minutes % 60} min"
