"""A backup becomes the site again. All of it is fetched and compared beside the running site, and only then put in its place.

Until the switch nothing of the site is touched. The switch itself is renaming: of Gitea's folder and of its database, and
the way back is renaming again. The journal says that a switch is under way; whoever finds it goes back.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ops import accounts, backup, bases, health, manifest, replay, wal
from ops.away import Absence, away, let_in
from ops.backup import DUMP, REPOSITORIES, Repositories
from ops.config import Site
from ops.errors import Degraded, OpsError, Refused, RolledBack, Stranded
from ops.manifest import Backup, Manifest
from ops.model import Agree, Report, Secret, in_bytes
from ops.paths import Places
from ops.pins import pin_from
from ops.timeline import Timeline
from ops.wal import Base, Replay
from ops.world import World, database
from ops.world.lock import exclusive
from ops.world.restic import Full, Restic, folder_of

# The database as it is fetched, and the one that was in its place.
STAGED, ASIDE = "gitea_restored", "gitea_before"
# More than the data itself, for what a file system keeps of its own.
_ROOM = 1.1
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Wish:
    """What is to be restored: a backup by its identity, else the newest at or before ``at``, else the newest of all.

    With ``repository`` (owner/name) it is that repository alone. ``rehearse`` only tells the plan. With ``replay`` the
    database is made of a base and its log instead of the dump, as it was at the same moment; with ``newest_database`` it is
    the newest that they make, on the data of the backup. With ``fetch`` the data is fetched and written anew even where the
    picture that it was stored from is still on the data disk.
    """

    identity: str = ""
    at: datetime | None = None
    repository: str = ""
    rehearse: bool = False
    replay: bool = False
    newest_database: bool = False
    fetch: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """Which parts of a backup the restore cannot do without."""
        spared = ("database",) if self.replay or self.newest_database else ()
        return tuple(each for each in manifest.PARTS if each not in spared)


@dataclass(frozen=True)
class Facts:
    """What there is before a restore: Gitea's version here, room on the data disk in bytes, a digest of the SECRET_KEY in use.

    ``picture`` is what the backup's data was stored from, where that is on the data disk and to be used.
    """

    version: str
    free: int
    secret_key: str
    picture: Path | None = None


@dataclass(frozen=True)
class Staging:
    """Where on the data disk a restore works: what is fetched, what was in its place, and the journal of the switch."""

    folder: Path

    @property
    def data(self) -> Path:
        """What was fetched and is not in its place yet."""
        return self.folder / "gitea"

    @property
    def aside(self) -> Path:
        """What was in its place before."""
        return self.folder / "before"

    @property
    def journal(self) -> Path:
        """There while a switch is under way; says to which backup, and of which repository if it is of one alone."""
        return self.folder / "journal"


@dataclass(frozen=True)
class Single:
    """One repository of Gitea's data: where it is, and where it is fetched and kept aside, on the same subvolume."""

    data: Path
    name: str

    @property
    def live(self) -> Path:
        """The repository that people use."""
        return self.data / REPOSITORIES / self.name

    @property
    def root(self) -> Path:
        """A folder like Gitea's own, with nothing but this repository."""
        return self.data / ".restored"

    @property
    def staged(self) -> Path:
        """What was fetched and is not in its place yet."""
        return self.root / REPOSITORIES / self.name

    @property
    def aside(self) -> Path:
        """What was in its place before."""
        return self.root / "before"


def restore(site: Site, world: World, *, wish: Wish, agree: Agree, places: Places | None = None) -> Report:
    """Make the site what a backup says it was.

    Raises Refused when there is no such backup, it does not fit, it is not what its manifest says or no one agrees: then
    nothing was touched. Raises OpsError when it could not be fetched, RolledBack when the restored site does not come up
    and the one before is back, Stranded when that does not come up either, and Degraded when all is done except that the
    administrator of the backup's time cannot sign in with today's password.
    """
    places = places or Places()
    with exclusive(places.lock, world.clock.now(), "ops restore"):
        _resume(world, places)
        both = backup.repositories(site, world, places)
        backups = known(site, world, both, wish.needed)
        chosen = choose(backups, wish)
        facts = _facts(world, places, chosen, wish)
        log = _log(site, world, places, chosen, wish)
        # One repository is of no version and no key, and mostly small; restic says when there is no room for it.
        problems = () if wish.repository else judge(chosen, facts, log.plan.base.size if log else 0)
        if problems:
            raise Refused("\n".join(problems), "nothing was touched")
        over = passed_over(backups, chosen, wish)
        lines = (*plan(chosen, facts, wish, world.clock.now()), *_log_lines(chosen, log), *over)
        if wish.rehearse:
            told = {"identity": chosen.identity, "passed_over": over, "plan": list(lines)}
            return Report("restore", False, f"would restore {chosen.identity}", told, lines)
        agree(site.name, lines)
        if wish.repository:
            return _restore_repository(world, places, both, chosen, wish.repository)
        return _restore_site(site, world, places, chosen, _Origin(both, log, facts.picture))


def resume(site: Site, world: World, *, places: Places | None = None) -> Report:
    """Go back to the site as it was when a restore was cut off in its switch; else change nothing."""
    places = places or Places()
    with exclusive(places.lock, world.clock.now(), "ops restore --resume"):
        undone = _resume(world, places)
        if not undone and _staging(places).data.exists():
            world.tell("a restore was cut off while it fetched: what it had fetched is removed")
            _clear_fetched(world, places)
    summary = (
        f"a restore of {site.name} was cut off: the site is as it was before" if undone else "no restore was cut off"
    )
    return Report("restore", undone, summary)


def keep_secret_key(site: Site, world: World, *, wish: Wish, places: Places | None = None) -> Report:
    """Write the SECRET_KEY of a backup's Gitea to a file in memory that root alone can read, and say where it is.

    That is where the operator has it from, who gives it to a site made anew: ops secrets set gitea-secret-key. Raises Refused
    when there is no such backup, OpsError when its app.ini has not the key that its manifest tells of.
    """
    places = places or Places()
    both = backup.repositories(site, world, places)
    chosen = choose(known(site, world, both), wish)
    source, snapshots = sources_of(chosen, both)[0]
    kept = f"{folder_of(source, snapshots['data'])}/gitea/conf/app.ini"
    key = secret_key_from(source.read(snapshots["data"], kept))
    if hashlib.sha256(key.reveal().encode()).hexdigest() != chosen.secret_key:
        raise OpsError(
            f"app.ini of backup {chosen.identity} has not the SECRET_KEY that its manifest tells of",
            "choose another backup: ops backup list",
        )
    path = places.secrets.parent / f"secret-key-of-{chosen.identity}"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="utf-8") as file:
        file.write(key.reveal())
    facts = {"identity": chosen.identity, "file": str(path)}
    return Report("restore", True, f"the SECRET_KEY of backup {chosen.identity} is in {path} until it boots", facts)


def secret_key_from(ini: str) -> Secret:
    """Return the SECRET_KEY that an app.ini has; raises OpsError when it has none."""
    # What stands before the first section is the app's own, such as its name.
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(f"[DEFAULT]\n{ini}")
    key = parser.get("security", "SECRET_KEY", fallback="").strip('`"')
    if not key:
        raise OpsError("the backup's app.ini has no SECRET_KEY", "choose another backup: ops backup list")
    return Secret(key)


def choose(backups: Iterable[Backup], wish: Wish) -> Manifest:
    """Return the backup that is wished for; raises Refused when there is none, or only a broken one."""
    known = {each.identity: each for each in backups}
    whole = sorted((each.manifest for each in known.values() if each.manifest), key=lambda each: each.moment)
    if wish.identity:
        named = known.get(wish.identity)
        if named is None:
            near = ", ".join(each.identity for each in whole[-3:]) or "there is none"
            raise Refused(f"there is no backup {wish.identity}", f"the newest: {near}; all of them: ops backup list")
        if named.manifest is None:
            raise Refused(f"backup {wish.identity} is broken: {named.broken}", "choose another: ops backup list")
        return named.manifest
    early = [each for each in whole if wish.at is None or each.moment <= wish.at]
    if not early:
        when = f" from {wish.at:%Y-%m-%d %H:%M:%S} or before" if wish.at else ""
        raise Refused(f"there is no whole backup{when}", "ops backup list; is backup.bucket the right one?")
    return early[-1]


def passed_over(backups: Iterable[Backup], chosen: Manifest, wish: Wish) -> tuple[str, ...]:
    """Return a line for each backup that would have been chosen, were it whole."""
    if wish.identity:
        return ()
    last = manifest.identity_of(wish.at) if wish.at else "~"
    return tuple(
        f"passed over: backup {each.identity} is newer, and broken: {each.broken}"
        for each in backups
        if each.manifest is None and chosen.identity < each.identity <= last
    )


def judge(chosen: Manifest, facts: Facts, base: int = 0) -> tuple[str, ...]:
    """Return each reason not to restore, with what would remove it; ``base`` is the size of a base that is needed, too."""
    problems = []
    if _order(facts.version) < _order(chosen.versions["gitea"]):
        problems.append(
            f"the backup is of Gitea {chosen.versions['gitea']}, {facts.version} runs here and refuses a newer database: "
            f"ops update gitea --to {chosen.versions['gitea']} (on a new host: name it in compose/images.env and deploy), then restore"
        )
    if facts.secret_key != chosen.secret_key:
        problems.append(
            "the backup was made under another SECRET_KEY, without which two-factor secrets, mirrors' passwords and Actions "
            'secrets cannot be read: docs/runbooks/restore.md, "Another SECRET_KEY"'
        )
    if lacking := judge_room(chosen, facts.free, base, photographed=facts.picture is not None):
        problems.append(lacking)
    return tuple(problems)


def judge_room(chosen: Manifest, free: int, base: int, *, photographed: bool) -> str:
    """Return why there is not room for a backup beside the site, or nothing; its data needs none where its picture is there."""
    data = 0 if photographed else int(chosen.parts["data"].size * _ROOM)
    needed = data + chosen.parts["database"].size + base
    if free >= needed:
        return ""
    return (
        f"{in_bytes(free)} are free on the data disk, the backup needs {in_bytes(needed)} beside the site: "
        "make room, or enlarge host.data_gib and deploy"
    )


def plan(chosen: Manifest, facts: Facts, wish: Wish, now: datetime) -> tuple[str, ...]:
    """Return what a restore will do, as a person has to read it before agreeing."""
    age = now - chosen.moment
    what = f"repository {wish.repository}" if wish.repository else f"{chosen.domain}, whole"
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
            f"taken: data, {data}, from the picture that it was stored from, which is still on the data disk; with --fetch "
            "it is brought from the repository and written anew"
        )
    if _order(facts.version) > _order(chosen.versions["gitea"]):
        lines.append(
            f"migrated: the database, from Gitea {chosen.versions['gitea']} to {facts.version}, as Gitea starts"
        )
    if not wish.repository:
        lines.append("away: Gitea, from the switch until it is healthy again; the fetching before that disturbs no one")
    return tuple(lines)


def plan_log(chosen: Manifest, known: Iterable[Base], names: Iterable[str], *, newest: bool) -> Replay:
    """Return how base and log make the database of a backup's moment, or the newest; raises Refused when they do not."""
    return wal.plan_replay(known, names, chosen.system, None if newest else wal.position_from(chosen.position))


def require_reader(replaying: Replay, tag: str) -> None:
    """Raise Refused when the PostgreSQL of a tag cannot replay a log: no major version reads another's."""
    wrote, reads = (_order(version)[0] for version in (replaying.base.version, tag))
    if wrote != reads:
        raise Refused(
            f"PostgreSQL {wrote} wrote that log, and {reads} runs here, which cannot read it",
            "restore the backup's dump: ops restore without --from-log and --newest-database",
        )


def log_lines(chosen: Manifest, replaying: Replay, *, newest: bool) -> tuple[str, ...]:
    """Return what a person has to read of a restore that takes the database from its log."""
    base = replaying.base
    until = "its end" if replaying.stop is None else f"position {wal.position_as_text(replaying.stop)}"
    names = len(replaying.names)
    lines = [f"database: base {base.identity} ({in_bytes(base.size)}) and {names} files of its log, until {until}"]
    if newest:
        lines.append(
            f"may disagree: the database is as new as its log, the repositories are of {chosen.moment:%Y-%m-%d %H:%M:%S} UTC. "
            "Issues, comments and accounts since are there; pushes since are not, though the database may tell of them, and a "
            "repository that was made since has no content"
        )
    return tuple(lines)


@dataclass(frozen=True)
class _Origin:
    """Where it comes from: the repositories; the picture that the data was stored from; base and log, if not of the dump."""

    both: Repositories
    log: _Log | None
    picture: Path | None


def _restore_site(site: Site, world: World, places: Places, chosen: Manifest, origin: _Origin) -> Report:
    timeline, staging = Timeline(world), _staging(places)
    try:
        until, origin = _have_beside(site, world, places, chosen, origin, timeline)
    except OpsError as failed:
        if failed.exit_code != OpsError.exit_code:
            raise
        raise RolledBack(f"nothing was restored, the site was not touched: {failed.message}", failed.hint) from failed
    with away(site, world, "A backup is being put in its place.", project=places.project) as absence:
        began = world.clock.monotonic()
        _put_in_place(site, world, places, chosen, absence, timeline)
    world.journal(staging.journal).close()
    places.lineage.touch()
    _let_in(site, world, places)
    seconds = round(world.clock.monotonic() - began, 2)
    facts = {
        "identity": chosen.identity,
        "away": seconds,
        "durations": timeline.seconds,
        "database_until": until,
        "picture": origin.picture is not None,
    }
    newer = f", its database that of {until}" if origin.log and origin.log.newest else ""
    return Report(
        "restore",
        True,
        f"the site is that of {chosen.moment:%Y-%m-%d %H:%M:%S} UTC again{newer}; it was away for {seconds:.1f} s",
        facts,
        (f"kept aside until the next restore: {staging.aside}, database {ASIDE}",),
    )


class _Unfit(OpsError):
    """The picture that the data was to be taken from cannot be used; what of a restore was there is removed again."""


def _have_beside(
    site: Site, world: World, places: Places, chosen: Manifest, origin: _Origin, timeline: Timeline
) -> tuple[str, _Origin]:
    """Have all of a backup beside the site, as its manifest says; where its picture is not to be used after all, by fetching it.

    Returns until when the database goes, where that is told by its log, and where all came from.
    """
    try:
        return _fetched(site, world, places, chosen, origin, timeline), origin
    except _Unfit as unfit:
        world.tell(f"the picture on the data disk cannot be used, so all is fetched: {unfit.message}")
        base = origin.log.plan.base.size if origin.log else 0
        if lacking := judge_room(chosen, world.subvolumes.free(places.data), base, photographed=False):
            raise Refused(f"{unfit.message}; and {lacking}", "nothing of the site was touched") from unfit
    fetching = replace(origin, picture=None)
    return _fetched(site, world, places, chosen, fetching, timeline), fetching


def _fetched(site: Site, world: World, places: Places, chosen: Manifest, origin: _Origin, timeline: Timeline) -> str:
    """Fetch a backup and compare it with its manifest; nothing of it stays when it is not that.

    Returns until when the database goes, where that is told by its log. Raises _Unfit when it is the picture that is wrong.
    """
    with ExitStack() as undo:
        undo.callback(_clear, world, places)
        with timeline.step("fetch"):
            until = _stage(site, world, places, chosen, origin)
        with timeline.step("compare"):
            refs = _refs_of_picture(world, places, chosen, origin.picture) if origin.picture else _refs(world, places)
            # Of a newer database no one knows beforehand how many rows it has.
            rows = dict(chosen.rows) if origin.log and origin.log.newest else _rows(world, places)
            if differing := compare(chosen, rows, refs):
                raise Refused(
                    f"what was fetched is not what backup {chosen.identity} says: {'; '.join(differing[:5])}",
                    "the site was not touched; restore another backup: ops backup list",
                )
        undo.pop_all()
    return until


def _let_in(site: Site, world: World, places: Places) -> None:
    """The administrator's password may have been rotated since the backup: Secrets Manager's is the one that counts."""
    _write_hooks(world, places)
    try:
        accounts.ensure_admin(site, world)
    except OpsError as failed:
        raise Degraded(
            f"the site is restored, but its administrator cannot sign in: {failed.message}", "ops accounts ensure-admin"
        ) from failed


@dataclass(frozen=True)
class _Log:
    """The database out of its log: how, of which it is the newest, and where that is done."""

    plan: Replay
    newest: bool
    place: replay.Place


def _log(site: Site, world: World, places: Places, chosen: Manifest, wish: Wish) -> _Log | None:
    """How the log makes the database that is wished for; None when it is the dump that is wished for."""
    if not (wish.replay or wish.newest_database) or wish.repository:
        return None
    if not chosen.system:
        raise Refused(f"backup {chosen.identity} is from before the log was kept", "restore its dump: ops restore")
    waiting = wal.Waiting(places.wal / chosen.system)
    shipped = frozenset(bases.shipped(site, world, chosen.system))
    left = replay.left_in(waiting) - shipped
    planned = plan_log(chosen, bases.recorded(site, world, pass_over=True), shipped | left, newest=wish.newest_database)
    (image,) = [each.image for each in world.containers.services(places.project) if each.name == "postgres"]
    require_reader(planned, pin_from(image).tag)
    place = replay.Place(*_scratch(places), image=image, key=bases.key_of(places.secrets), waiting=waiting, left=left)
    return _Log(planned, wish.newest_database, place)


def _scratch(places: Places) -> tuple[Path, str]:
    """Where a database is made of its log: the folder, and the container's name."""
    return places.data / ".replay", f"{places.project}-replay"


def _log_lines(chosen: Manifest, log: _Log | None) -> tuple[str, ...]:
    return log_lines(chosen, log.plan, newest=log.newest) if log else ()


def _load_log(site: Site, world: World, places: Places, both: Repositories, log: _Log) -> str:
    """Fill the staged database with that of base and log, and return until when it goes."""
    local = log.plan.base.local in {each.identity for each in both.local.snapshots_if_there() or ()}
    source = both.local if local else both.remote
    with replay.database_of(site, world, log.plan, source, log.place) as container:
        until = replay.until(world, container)
        postgres = world.containers.name(places.project, "postgres")
        dump, load = database.dump(container), database.load(postgres, STAGED)
        done = world.processes.pipe(dump, load, environment={}, tell=world.tell)
        if done.code:
            raise OpsError(f"the replayed database cannot be brought over: {done.output.strip()[-600:]}")
    return until


def _write_hooks(world: World, places: Places) -> None:
    """The hooks in a backup name Gitea's program and configuration where the Gitea of its time had them."""
    hooks = ["gitea", "admin", "regenerate", "hooks"]
    done = world.containers.execute(places.project, "gitea", hooks, user="git")
    if done.code:
        raise Degraded(
            f"all is restored, but the repositories' hooks could not be written anew: {done.output.strip()[-400:]}",
            "Gitea may not notice pushes: gitea doctor check; gitea admin regenerate hooks",
        )


def _stage(site: Site, world: World, places: Places, chosen: Manifest, origin: _Origin) -> str:
    """Fetch data and database beside those in use, from the bucket when this host's copy is damaged.

    Returns until when the database goes, where that is told by its log.
    """
    *first, last = sources_of(chosen, origin.both)
    for source, snapshots in first:
        _clear(world, places)
        try:
            _fetch(world, places, source, snapshots, origin.picture)
            return _load(site, world, places, origin, source, snapshots)
        except OpsError as failed:
            if not _is_damage(failed):
                raise
            what = "the database" if origin.picture else "all"
            world.tell(f"this host's copy is damaged, {what} is fetched from the bucket: {failed.message}")
    _clear(world, places)
    _fetch(world, places, *last, origin.picture)
    try:
        return _load(site, world, places, origin, *last)
    except OpsError as failed:
        if origin.log or not _is_damage(failed):
            raise
        return _load_spare(site, world, places, chosen, origin, failed)


def _is_damage(failed: OpsError) -> bool:
    """What has a code of its own, a full disk and a picture that is of no use would be the same from elsewhere."""
    return failed.exit_code == OpsError.exit_code and not isinstance(failed, Full | _Unfit)


def _fetch(world: World, places: Places, source: Restic, snapshots: Mapping[str, str], picture: Path | None) -> None:
    staging = _staging(places)
    if picture:
        try:
            world.subvolumes.revive(picture, staging.data)
        except OpsError as failed:
            raise _Unfit(failed.message) from failed
    else:
        if world.subvolumes.can_photograph(places.live):
            world.subvolumes.make(staging.data)
        source.restore(snapshots["data"], staging.data, include=folder_of(source, snapshots["data"]))
        world.subvolumes.own_like(places.live, staging.data)
    with world.database.session(world.containers.name(places.project, "postgres"), "postgres") as session:
        session.ask(f"CREATE DATABASE {STAGED} TEMPLATE template0")


def _load(
    site: Site, world: World, places: Places, origin: _Origin, source: Restic, snapshots: Mapping[str, str]
) -> str:
    """Fill the staged database with the dump, or from the log; returns until when the latter goes."""
    if origin.log:
        return _load_log(site, world, places, origin.both, origin.log)
    postgres = world.containers.name(places.project, "postgres")
    source.dump_into(snapshots["database"], DUMP, database.load(postgres, STAGED), world.tell)
    return ""


def _load_spare(site: Site, world: World, places: Places, chosen: Manifest, origin: _Origin, failed: OpsError) -> str:
    """Fill the staged database with what base and log make of the dump's moment; returns until when that goes."""
    world.tell(f"the dump cannot be used, so its moment is made of base and log: {failed.message}")
    try:
        spare = _log(site, world, places, chosen, Wish(replay=True))
    except OpsError as again:
        raise OpsError(f"{failed.message}\nand of its log: {again.message}", failed.hint) from failed
    assert spare
    return _load_log(site, world, places, origin.both, spare)


def sources_of(chosen: Manifest, both: Repositories) -> list[tuple[Restic, dict[str, str]]]:
    """Return the repositories to fetch a backup from, and its snapshots there: this host's, where all of it is, then the bucket's."""
    remote = {name: part.remote for name, part in chosen.parts.items()}
    local = {name: part.local for name, part in chosen.parts.items()}
    here = set(local.values()) <= {each.identity for each in both.local.snapshots_if_there() or ()}
    return [*([(both.local, local)] if here else []), (both.remote, remote)]


def _clear(world: World, places: Places) -> None:
    """Remove what a restore has left. What the last one kept aside was kept until now."""
    _clear_fetched(world, places)
    world.subvolumes.remove(_staging(places).aside)
    _drop_database(world, places, ASIDE)


def _clear_fetched(world: World, places: Places) -> None:
    staging = _staging(places)
    world.subvolumes.remove(staging.data)
    replay.clear(world, *_scratch(places))
    staging.folder.mkdir(mode=0o700, exist_ok=True)
    _drop_database(world, places, STAGED)


def _drop_database(world: World, places: Places, name: str) -> None:
    with world.database.session(world.containers.name(places.project, "postgres"), "postgres") as session:
        # By force: what a run that was killed began in the database's container may still be at work.
        session.ask(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _rows(world: World, places: Places) -> dict[str, int]:
    with world.database.session(world.containers.name(places.project, "postgres"), STAGED) as session:
        return dict(backup.content(session).rows)


def _refs(world: World, places: Places) -> dict[str, str]:
    return backup.refs(world, places, _staging(places).data)


def _refs_of_picture(world: World, places: Places, chosen: Manifest, picture: Path) -> dict[str, str]:
    """Return the refs of what was made of the picture; raises _Unfit when they cannot be read, or are not the manifest's."""
    try:
        refs = _refs(world, places)
    except OpsError as failed:
        raise _Unfit(failed.message) from failed
    # What has rotted since it was looked at was counted as git met it.
    if wrong := [*compare(chosen, dict(chosen.rows), refs)[:5], *world.subvolumes.errors(picture)]:
        raise _Unfit("; ".join(wrong))
    return refs


def compare(chosen: Manifest, rows: dict[str, int], refs: dict[str, str]) -> list[str]:
    """Return each difference between a manifest and what was fetched: counts of rows, and the refs of every repository."""
    tables = [
        f"table {name} has {rows.get(name, 'no')} rows of {count}"
        for name, count in chosen.rows.items()
        if rows.get(name) != count
    ]
    names = sorted({*chosen.repositories, *refs})
    return tables + [f"repository {name} differs" for name in names if chosen.repositories.get(name) != refs.get(name)]


def _put_in_place(
    site: Site, world: World, places: Places, chosen: Manifest, absence: Absence, timeline: Timeline
) -> None:
    try:
        with timeline.step("switch"):
            _switch(world, places, chosen, absence)
        with timeline.step("start"):
            absence.start()
            _await_gitea(site, world, places)
    except OpsError as failed:
        absence.give_back()
        raise _gone_back(site, world, places, failed) from failed
    except BaseException:
        absence.give_back()
        _go_back(world, places)
        raise


def _switch(world: World, places: Places, chosen: Manifest, absence: Absence) -> None:
    """Stop Gitea and put what was fetched in the place of what is there."""
    staging = _staging(places)
    world.journal(staging.journal).append({"step": "switch", "identity": chosen.identity, "repository": ""})
    absence.stop()
    with world.database.session(world.containers.name(places.project, "postgres"), "postgres") as session:
        _rename_database(session, database.USER, ASIDE)
        _rename_database(session, STAGED, database.USER)
    world.subvolumes.rename(places.live, staging.aside)
    world.subvolumes.rename(staging.data, places.live)


def _await_gitea(site: Site, world: World, places: Places) -> None:
    """A backup of an earlier version migrates as an update does."""
    health.await_healthy(world, ["gitea"], project=places.project, seconds=60 * site.update.healthy_minutes)


def _gone_back(site: Site, world: World, places: Places, failed: OpsError) -> OpsError:
    """Put back what was there, and return how that went."""
    staging = _staging(places)
    try:
        _go_back(world, places)
    except OpsError as again:
        return Stranded(
            f"the restored site does not come up ({failed.message}), and the one before cannot be put back: {again.message}",
            f"look at the logs of gitea; the data before is in {staging.aside}, or in its place; then: ops restore --resume",
        )
    try:
        _await_gitea(site, world, places)
        _clear(world, places)
    except OpsError as again:
        return Stranded(
            f"the restored site does not come up ({failed.message}); the one before is in its place again, and does not either: "
            f"{again.message}",
            f"mend what the logs of gitea name, then: systemctl restart gitea-suite; what was restored is in {staging.data}",
        )
    return RolledBack(
        f"the restored site does not come up, and the one before is back: {failed.message}",
        "restore another backup: ops backup list",
    )


def _resume(world: World, places: Places) -> bool:
    undone = _undone(world, places)
    # By a run that was killed in its switch, or just before it.
    let_in(world, places.project)
    return undone


def _undone(world: World, places: Places) -> bool:
    records = world.journal(_staging(places).journal).records()
    if not records:
        return False
    world.tell("a restore was cut off in its switch: going back to what was there before")
    if repository := records[-1]["repository"]:
        _go_back_to(world, places, Single(places.live, repository))
    else:
        _go_back(world, places)
    return True


def _go_back(world: World, places: Places) -> None:
    """Whatever of a switch was done, undo it, and start Gitea on what was there before."""
    staging = _staging(places)
    world.containers.stop(places.project, "gitea")
    if staging.aside.exists():
        if places.live.exists():
            world.subvolumes.rename(places.live, staging.data)
        world.subvolumes.rename(staging.aside, places.live)
    with world.database.session(world.containers.name(places.project, "postgres"), "postgres") as session:
        there = {name for (name,) in session.ask("SELECT datname FROM pg_database")}
        if ASIDE in there:
            if database.USER in there:
                _rename_database(session, database.USER, STAGED)
            _rename_database(session, ASIDE, database.USER)
    world.containers.start(places.project, "gitea")
    world.journal(staging.journal).close()


def _rename_database(session: database.Session, name: str, new: str) -> None:
    session.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - ours
    session.ask(f"ALTER DATABASE {name} RENAME TO {new}")


def _restore_repository(world: World, places: Places, both: Repositories, chosen: Manifest, repository: str) -> Report:
    """Put one bare repository in the place of the one that is there. Its issues and settings in the database stay as they are."""
    name = f"{repository.lower()}.git"
    if not _REPOSITORY.fullmatch(repository) or name not in chosen.repositories:
        raise Refused(
            f"backup {chosen.identity} has no repository {repository}", "give it as OWNER/NAME; ops backup list"
        )
    single = Single(places.live, name)
    if not single.live.is_dir():
        raise Refused(
            f"{repository} is not there: Gitea would not know what is restored",
            f"make an empty {repository}, then restore",
        )
    _fetch_repository(world, single, sources_of(chosen, both))
    for folder in (single.staged, *single.staged.parents):
        if folder == places.live:
            break
        world.subvolumes.own_like(single.live, folder)
    if backup.refs(world, places, single.root).get(name) != chosen.repositories[name]:
        raise Refused(
            f"what was fetched of {repository} is not what the backup says",
            "nothing was touched; restore it out of another backup: ops backup list",
        )
    journal = world.journal(_staging(places).journal)
    journal.append({"step": "switch", "identity": chosen.identity, "repository": name})
    world.subvolumes.rename(single.live, single.aside)
    world.subvolumes.rename(single.staged, single.live)
    journal.close()
    _write_hooks(world, places)
    facts = {"identity": chosen.identity, "repository": repository}
    return Report(
        "restore", True, f"{repository} is that of {chosen.identity} again", facts, (f"kept aside: {single.aside}",)
    )


def _fetch_repository(world: World, single: Single, sources: Sequence[tuple[Restic, Mapping[str, str]]]) -> None:
    """Fetch one repository beside the one in use, from the bucket when this host's copy is damaged."""
    for source, snapshots in sources:
        world.subvolumes.remove(single.root)
        kept = f"{folder_of(source, snapshots['data'])}/{REPOSITORIES}/{single.name}"
        try:
            source.restore(snapshots["data"], single.staged, include=kept)
        except OpsError as failed:
            if source is sources[-1][0] or not _is_damage(failed):
                raise
            world.tell(f"this host's copy is damaged, {single.name} is fetched from the bucket: {failed.message}")
        else:
            return


def _go_back_to(world: World, places: Places, single: Single) -> None:
    """Whatever of putting one repository in place was done, undo it."""
    if single.aside.exists():
        if single.live.exists():
            world.subvolumes.rename(single.live, single.staged)
        world.subvolumes.rename(single.aside, single.live)
    world.journal(_staging(places).journal).close()


def _staging(places: Places) -> Staging:
    return Staging(places.data / ".restore")


def known(site: Site, world: World, both: Repositories, needed: Collection[str] = manifest.PARTS) -> tuple[Backup, ...]:
    """Return the backups that the bucket tells of, each whole in its ``needed`` parts or broken."""
    return known_in(site, world, both.remote, needed)


def known_in(site: Site, world: World, remote: Restic, needed: Collection[str] = manifest.PARTS) -> tuple[Backup, ...]:
    """Return the backups that the bucket tells of, by whichever door its repository is reached."""
    there = {each.identity for each in remote.snapshots_if_there() or ()}
    keys = world.aws.objects(site.backup.bucket, manifest.PREFIX)
    names = {key: key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys}
    return tuple(
        manifest.judge(name, world.aws.read_object(site.backup.bucket, key), there, needed)
        for key, name in names.items()
    )


def _facts(world: World, places: Places, chosen: Manifest, wish: Wish) -> Facts:
    # The image's tag and not what the program says of itself: a Gitea that does not come up is a reason to restore.
    (image,) = [each.image for each in world.containers.services(places.project) if each.name == "gitea"]
    picture = None if wish.fetch or wish.repository else backup.picture_of(world, places, chosen)
    return Facts(pin_from(image).tag, world.subvolumes.free(places.data), backup.secret_key(places), picture)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, hours = divmod(minutes // 60, 24)
    return f"{days} days {hours} h" if days else f"{hours} h {minutes % 60} min"
