"""Backups of one moment. The site stands still for a picture, and is copied while it goes on.

What a backup is of: the database as PostgreSQL exported it, Gitea's data as the file system photographed it, both while
Gitea was frozen; and the host's configuration. Each is a restic snapshot in the repository on this host, copied to the
one in the bucket; the manifest, written last, makes a backup of the three.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ops
from ops import bases, catalogue, manifest, tidy
from ops.config import Site
from ops.errors import Degraded, Locked, OpsError, Refused, RolledBack, Unavailable
from ops.manifest import Manifest, Part, Unreadable
from ops.model import Report, in_bytes
from ops.paths import Places
from ops.timeline import Timeline
from ops.world import World, database
from ops.world.containers import FROZEN_SECONDS
from ops.world.database import Session
from ops.world.lock import exclusive
from ops.world.restic import Restic, Stored

# A clock that is behind the newest backup by more is wrong, or was when that was taken.
_CLOCK_BEHIND = timedelta(minutes=1)
_HOT = "first-pass"
DUMP = "gitea.dump"
REPOSITORIES = "git/repositories"
# In the bucket: restic's repository, and the locks of who works in it.
REMOTE = "restic/"
LOCKS = f"{REMOTE}locks/"
# Counted in every backup, as far as this version of Gitea has them.
MAIN_TABLES = (
    "access_token", "action", "attachment", "comment", "issue", "label", "lfs_meta_object", "milestone", "org_user",
    "package", "public_key", "pull_request", "release", "repository", "team", "user", "webhook",
)  # fmt: skip
# What stands for the digest of a repository's refs that cannot be read: the site has it so, and so has a restored one.
UNREADABLE = "unreadable"
# A digest of a repository's refs is that of these lines.
_REFS = f"""cd /data/{REPOSITORIES} 2>/dev/null || exit 0
find . -mindepth 2 -maxdepth 2 -name '*.git' -type d | sort | while read -r each; do
    echo "= ${{each#./}}"
    git -C "$each" symbolic-ref HEAD
    git -C "$each" for-each-ref --format='%(objectname) %(refname)' || echo {UNREADABLE}
done"""
_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True)
class Repositories:
    """The two repositories: on this host, and in the bucket."""

    local: Restic
    remote: Restic


@dataclass(frozen=True)
class Moment:
    """What was so while the site stood still: when, for how long, and the content of the database.

    ``position`` is that in the database's log, of the database ``system``.

    ``data`` is the snapshot of Gitea's data where no picture of it could be taken, and ``refs`` what git said of it then.
    """

    when: datetime
    paused: float
    export: str
    system: str
    position: str
    data: Stored | None = None
    refs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """What the database said of itself at the moment."""

    migration: int
    rows: Mapping[str, int]


def repositories(site: Site, world: World, places: Places) -> Repositories:
    """Return both repositories of a site, which need not be there yet."""
    password = places.secrets / "restic-password"
    return Repositories(
        world.restic(str(places.local), password_file=password, cache=places.cache),
        world.restic(remote_address(site), password_file=password, cache=places.cache),
    )


def remote_address(site: Site) -> str:
    """Return restic's name for the repository in the bucket."""
    endpoint = site.aws.endpoint_url or f"https://s3.{site.aws.region}.amazonaws.com"
    return f"s3:{endpoint}/{site.backup.bucket}/{REMOTE.rstrip('/')}"


def take(site: Site, world: World, *, begin_anew: bool = False, places: Places | None = None) -> Report:
    """Take a backup of this moment, on this host and then in the bucket; bring there what earlier runs could not.

    What a run that was cut off has left is removed by the next. Once a day the repository on this host is tidied at the end.
    Raises Locked while another operation runs, RolledBack when a part could not be stored on this host: then there is no
    backup, and nothing of it. Raises Unavailable or Degraded when it is on this host and could not be brought to the bucket:
    the next run does that. Raises Refused on a new data disk while there are backups of the site, unless it is to
    ``begin_anew``: the newest backup would be of a site that has lost everything. Exit code 3 when the clock is behind the
    newest backup, or tidying fails.
    """
    places = places or Places()
    with exclusive(places.lock, world.clock.now(), "ops backup take"):
        timeline, known = Timeline(world), _in_bucket(site, world)
        if not begin_anew:
            _require_data(places, known)
        behind = manifest.behind(world.clock.now(), known.identities)
        try:
            made = _taken(site, world, places, known, timeline)
        except OpsError as failed:
            raise _nothing_kept(failed) from failed
        places.lineage.touch()
        try:
            known.all_of_them()
            made, left = _brought(site, world, places, timeline, made)
        except OpsError as failed:
            raise _kept_here(made, failed) from failed
        left = (*left, *_tidied(site, world, places, made.finished, timeline), *_unread(made))
        _renew_base(site, world, places, made)
    facts: dict[str, Any] = {
        "identity": made.identity,
        "paused": made.paused,
        "stored": made.stored,
        "durations": dict(made.durations),
    }
    summary = f"backup {made.identity}: writes stood still for {made.paused:.2f} s, {in_bytes(made.stored)} added"
    if behind > _CLOCK_BEHIND:
        facts["clock_behind"] = behind.total_seconds()
        wrong = f"this host's clock is {behind} behind the newest backup: one of the two is wrong (timedatectl, chronyc tracking)"
        left = (*left, wrong)
    return Report("backup", True, summary, facts, left, 3 if left else 0)


def _renew_base(site: Site, world: World, places: Places, made: Manifest) -> None:
    """After the backup, and under its lock: no one else works in the repositories then."""
    both = repositories(site, world, places)
    try:
        bases.refresh(site, world, both.local, both.remote, world.containers.name(places.project, "postgres"))
    except OpsError as failed:
        raise Degraded(
            f"backup {made.identity} is whole, but there is no new base of the database: {failed.message}", failed.hint
        ) from failed


def _require_data(places: Places, known: _Known) -> None:
    if not places.lineage.exists() and known.all_of_them():
        raise Refused(
            "this data disk is new, and there are backups of the site: one of a site without its data would be the newest",
            "bring the data back: ops restore; or begin without it: ops backup take --begin-anew",
        )


def _unread(made: Manifest) -> tuple[str, ...]:
    """What a person has to know of a backup that is whole: that the site has repositories that git itself cannot read."""
    return tuple(
        f"the backup has {name} as it is, and git cannot read it: gitea doctor check"
        for name, digest in made.repositories.items()
        if digest == UNREADABLE
    )


@dataclass(frozen=True)
class _Known:
    """The backups in the bucket, by their names, or why no one can tell."""

    identities: frozenset[str]
    away: OpsError | None = None

    def all_of_them(self) -> frozenset[str]:
        """Return their names; raises OpsError when no one can tell."""
        if self.away:
            raise self.away
        return self.identities


def _in_bucket(site: Site, world: World) -> _Known:
    try:
        keys = world.aws.objects(site.backup.bucket, manifest.PREFIX)
    except OpsError as away:
        world.tell(f"the bucket is out of reach, the backup is kept on this host until it is not: {away.message}")
        return _Known(frozenset(), away)
    return _Known(frozenset(key.removeprefix(manifest.PREFIX).removesuffix(".json") for key in keys))


def _nothing_kept(failed: OpsError) -> OpsError:
    """A failure without a name of its own is one after which all is as before."""
    if failed.exit_code != OpsError.exit_code:
        return failed
    return RolledBack(f"no backup was made, and the site is as it was: {failed.message}", failed.hint)


def _kept_here(made: Manifest, failed: OpsError) -> OpsError:
    kinds: dict[int, type[OpsError]] = {each.exit_code: each for each in (Unavailable, Locked)}
    kind = kinds.get(failed.exit_code, Degraded)
    return kind(
        f"backup {made.identity} is kept on this host, and not in the bucket yet: {failed.message}",
        f"the next run of ops backup take brings it there; {failed.hint}",
    )


def of_this_moment(site: Site, world: World, places: Places) -> Manifest:
    """Take a backup as ``take`` does, here and in the bucket, for a verb that holds the lock of all operations already."""
    known, timeline = _in_bucket(site, world), Timeline(world)
    known.all_of_them()
    _require_data(places, known)
    made = _taken(site, world, places, known, timeline)
    places.lineage.touch()
    made, _ = _brought(site, world, places, timeline, made)
    return made


def refs_from(output: str) -> dict[str, str]:
    """Return a digest of the refs of each repository, from what ``_REFS`` prints of them; UNREADABLE for one that git cannot read."""
    refs: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith("= "):
            lines = refs.setdefault(line[2:], [])
        else:
            lines.append(line)
    return {
        name: UNREADABLE if UNREADABLE in each else hashlib.sha256("\n".join(sorted(each)).encode()).hexdigest()
        for name, each in refs.items()
    }


def _tidied(site: Site, world: World, places: Places, now: datetime, timeline: Timeline) -> tuple[str, ...]:
    """Once a day the host's own repository is tidied. The backup is made, whatever comes of that: what went wrong is returned."""
    note = places.local.with_name("tidied")
    if not tidy.is_due(note, now):
        return ()
    try:
        verified = {each.identity for each in catalogue.verifications(site, world, until_passed=True) if each.passed}
        with timeline.step("tidy"):
            removed = tidy.tidy(repositories(site, world, places).local, site.backup, verified)
    except OpsError as error:
        return (f"the backup is made, but this host's repository was not tidied: {error.message}",)
    tidy.done(note, now)
    world.tell(f"{removed} snapshots removed from this host's own repository")
    return ()


def _taken(site: Site, world: World, places: Places, known: _Known, timeline: Timeline) -> Manifest:
    """Take a backup on this host; what could not be finished is taken back."""
    postgres = world.containers.name(places.project, "postgres")
    with ExitStack() as undo:
        with timeline.step("repositories"):
            both = _ready(site, world, places, known)
            undo.callback(world.subvolumes.remove, places.picture)
            undo.enter_context(both.local.as_before_on_failure())
        session = undo.enter_context(world.database.session(postgres))
        earlier = {*known.identities, *(each.stem for each in places.pending.glob("*.json"))}
        moment = _moment(site, world, places, both, session, timeline, earlier)
        tag = manifest.identity_of(moment.when)
        with timeline.step("database"):
            said = content(session)
            dump = database.dump(postgres, moment.export)
            stored = {"database": both.local.store_output(dump, filename=DUMP, host=site.name, tags=[tag, "database"])}
        with timeline.step("data"):
            lender = None if moment.data else _of_the_same_data(world, places, both.local)
            if lender:
                same = lender.parts["data"]
                stored["data"], digests = Stored(same.local, same.size, 0), lender.repositories
            else:
                stored["data"] = moment.data or both.local.store([places.picture], host=site.name, tags=[tag, "data"])
                digests = moment.refs if moment.data else refs(world, places, places.picture)
        with timeline.step("configuration"):
            present = [each for each in places.configuration if each.exists()]
            note = [tidy.borrowing(stored["data"].snapshot)] if lender else []
            tags = [tag, *note, "configuration"]
            stored["configuration"] = both.local.store(present, host=site.name, tags=tags)
        made = Manifest(
            identity=tag,
            site=site.name,
            domain=site.domain,
            moment=moment.when,
            finished=world.clock.now(),
            parts={name: Part("", each.snapshot, each.size) for name, each in stored.items()},
            stored=sum(each.added for each in stored.values()),
            versions=versions(world, places),
            migration=said.migration,
            images=world.containers.pinned(places.project),
            rows=said.rows,
            repositories=digests,
            secret_key=secret_key(places),
            paused=round(moment.paused, 4),
            photographed=moment.data is None,
            durations=timeline.seconds,
            system=moment.system,
            position=moment.position,
        )
        if made.photographed:
            _keep_the_picture(world, places, made)
        places.pending.mkdir(mode=0o700, exist_ok=True)
        world.files.write(places.pending / f"{tag}.json", manifest.written(made))
    return made


def _of_the_same_data(world: World, places: Places, local: Restic) -> Manifest | None:
    """The newest backup on this host, if nothing in Gitea's data has changed since its moment: then it has nothing to be stored."""
    newest = _newest(places)
    if newest is None:
        return None
    earlier = places.picture_of(newest.identity)
    if not (earlier.is_dir() and local.holds(newest.parts["data"].local)):
        return None
    try:
        return None if world.subvolumes.differs(places.picture, earlier) else newest
    except OpsError as unknown:
        world.tell(
            f"what has changed since backup {newest.identity} cannot be told, so all is looked at: {unknown.message}"
        )
        return None


def _newest(places: Places) -> Manifest | None:
    """The newest backup that was made on this host, where that is known."""
    try:
        return manifest.read(places.newest.read_bytes())
    except (FileNotFoundError, Unreadable):
        return None


def picture_of(world: World, places: Places, made: Manifest) -> Path | None:
    """Return the picture that a backup's data was stored from, which is kept of the newest data.

    None where it is not on the data disk, or where that disk has returned anything else than was written.
    """
    newest = _newest(places)
    if newest is None or newest.parts["data"].local != made.parts["data"].local:
        return None
    picture = places.picture_of(newest.identity)
    return picture if world.subvolumes.can_photograph(picture) and not world.subvolumes.errors(picture) else None


def _keep_the_picture(world: World, places: Places, made: Manifest) -> None:
    """Keep what the next backup's picture is compared with, and no other. Cut off here, that one stores what there is, as the first."""
    world.files.write(places.newest, manifest.written(made))
    for each in places.picture.parent.iterdir():
        if each != places.picture:
            world.subvolumes.remove(each)
    world.subvolumes.rename(places.picture, places.picture_of(made.identity))


def _ready(site: Site, world: World, places: Places, known: _Known) -> Repositories:
    """Both repositories, the local one made where it is not there, and nothing left of a run that was cut off."""
    both = repositories(site, world, places)
    # No one else works in the local one: the lock of all operations is ours. One that is made anew is made like the other, so
    # that a copy shares what both have.
    if not both.local.unlock(every=True):
        known.all_of_them()
        both.local.make(both.remote if both.remote.exists() else None)
    world.subvolumes.remove(places.picture)
    return both


def _brought(
    site: Site, world: World, places: Places, timeline: Timeline, made: Manifest
) -> tuple[Manifest, tuple[str, ...]]:
    """Bring a backup to the bucket with all that waits; return it as it is there, and what of the others could not be brought."""
    stuck: dict[str, OpsError] = {}
    brought = _bring(site, world, places, timeline, stuck)
    if made.identity not in brought:
        raise stuck.get(made.identity) or OpsError(f"{made.identity} did not stay on this host", "run the backup again")
    left = (f"backup {name} cannot be brought to the bucket: {why.message}; {why.hint}" for name, why in stuck.items())
    return brought[made.identity], tuple(left)


def _bring(
    site: Site, world: World, places: Places, timeline: Timeline, stuck: dict[str, OpsError]
) -> dict[str, Manifest]:
    """Bring to the bucket what is on this host alone, oldest first, each with its manifest; return what was brought.

    What cannot be brought for a reason of its own is ``stuck`` and stops no other.
    """
    both = repositories(site, world, places)
    with timeline.step("bucket"):
        if not (_is_at_rest(site, world) or both.remote.unlock()):
            both.remote.make(both.local)
    brought = {}
    for file in sorted(places.pending.glob("*.json")):
        try:
            waiting = manifest.read(file.read_bytes())
            if not all(both.local.holds(part.local) for part in waiting.parts.values()):
                world.tell(f"backup {waiting.identity} was on this host alone, and is no more")
                file.unlink()
                continue
            with timeline.step("copy"):
                parts = _copied(both, waiting.parts)
            durations = {**waiting.durations, "copy": timeline.seconds["copy"]}
            made = replace(waiting, parts=parts, finished=world.clock.now(), durations=durations)
            with timeline.step("manifest"):
                world.aws.write_object(site.backup.bucket, manifest.key_of(made.identity), manifest.written(made))
                file.unlink()
        except OpsError as failed:
            # Those who are away, and a lock that someone holds, would be so for all the others.
            if failed.exit_code != OpsError.exit_code:
                raise
            waits = f"it waits as {file}: take it away when it is of no use"
            stuck[file.stem] = OpsError(failed.message, "; ".join(filter(None, (failed.hint, waits))))
            continue
        brought[made.identity] = made
    return brought


def _is_at_rest(site: Site, world: World) -> bool:
    """Tell, without opening it, whether the bucket's repository is there and has no lock (restic's design, "Repository Layout")."""
    there = world.aws.objects(site.backup.bucket, f"{REMOTE}config")
    return bool(there) and not world.aws.objects(site.backup.bucket, LOCKS)


def _moment(
    site: Site,
    world: World,
    places: Places,
    both: Repositories,
    session: Session,
    timeline: Timeline,
    earlier: Collection[str],
) -> Moment:
    gitea = world.containers.name(places.project, "gitea")
    photographs = world.subvolumes.can_photograph(places.live)
    with timeline.step("settle"):
        world.subvolumes.settle(places.data)
        if not photographs:
            world.tell(
                f"{places.live} is no btrfs subvolume: it is copied now, and what changes meanwhile while Gitea is frozen"
            )
            both.local.store([places.live], host=site.name, tags=[_HOT])
    data, digests = None, {}
    with timeline.step("freeze"), _frozen(world, places, gitea) as still:
        session.ask("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        ((export, position),) = session.ask("SELECT pg_export_snapshot(), pg_current_wal_insert_lsn()")
        when = manifest.moment_after(world.clock.now(), earlier)
        if photographs:
            world.subvolumes.photograph(places.live, places.picture)
        else:
            tags = [manifest.identity_of(when), "data"]
            data = both.local.store([places.live], host=site.name, tags=tags)
            digests = refs(world, places, places.live)
    if not photographs:
        # It made the files known, and is of no moment.
        both.local.forget([each.identity for each in both.local.snapshots(_HOT)])
    # The log is not to wait for the next write before it leads up to this moment.
    ((system, _),) = session.ask("SELECT system_identifier, pg_switch_wal() FROM pg_control_system()")
    return Moment(when, still.seconds, export, system, position, data, digests)


@dataclass
class _Still:
    """For how many seconds the site stood still."""

    seconds: float = 0.0


@contextmanager
def _frozen(world: World, places: Places, gitea: str) -> Iterator[_Still]:
    """Freeze Gitea for the length of the block; raises OpsError when someone had to let it go on before that ended."""
    if not places.watchman:
        raise Refused("OPS_IMAGE is not set", "run ops on the site's host, by /usr/local/bin/ops")
    still, began, held = _Still(), 0.0, False
    watch = world.containers.guard(gitea, watchman=places.watchman, seconds=FROZEN_SECONDS)
    try:
        began = world.clock.monotonic()
        world.containers.freeze(gitea)
        yield still
    finally:
        held = world.containers.thaw(gitea)
        still.seconds = world.clock.monotonic() - began
        world.containers.dismiss(watch)
    if not held:
        raise OpsError(
            f"the site would have stood still for more than {FROZEN_SECONDS:.0f} s, and was let go on: no backup was made",
            "is the disk overloaded? Gitea's data on btrfs (host.data_device) makes this an instant",
        )


def content(session: Session) -> Content:
    """Return what a database says of itself; in a transaction, as it was when that began."""
    ((migration,),) = session.ask("SELECT version FROM version")
    names = ", ".join(f"'{name}'" for name in MAIN_TABLES)
    there = session.ask(
        f"SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename IN ({names})"  # noqa: S608 - ours
    )
    counts = {name: session.ask(f'SELECT count(*) FROM "{name}"') for (name,) in there}  # noqa: S608
    return Content(int(migration), {name: int(count) for name, ((count,),) in counts.items()})


def refs(world: World, places: Places, folder: Path) -> dict[str, str]:
    """Return a digest of the refs of every repository in a folder like Gitea's; UNREADABLE for one that git cannot read."""
    (image,) = [each.image for each in world.containers.services(places.project) if each.name == "gitea"]
    done = world.containers.once(image, _REFS, folder=folder, target="/data", user="1000:1000")
    if done.code:
        raise OpsError(f"the repositories cannot be listed: {done.output.strip()[-400:]}", "gitea doctor check")
    return refs_from(done.output)


def secret_key(places: Places) -> str:
    """Return a digest of Gitea's SECRET_KEY. It is 64 random characters: no one finds them by it."""
    return hashlib.sha256((places.secrets / "gitea-secret-key").read_bytes()).hexdigest()


def _copied(both: Repositories, parts: Mapping[str, Part]) -> dict[str, Part]:
    both.remote.copy([each.local for each in parts.values()], both.local)
    there = {each.original: each.identity for each in both.remote.snapshots()}
    missing = [name for name, each in parts.items() if each.local not in there]
    if missing:
        raise OpsError(f"{' and '.join(missing)} did not arrive in the bucket", "run the backup again")
    return {name: replace(each, remote=there[each.local]) for name, each in parts.items()}


def versions(world: World, places: Places) -> dict[str, str]:
    """Return the versions of gitea, postgresql, restic and this suite."""
    said = {
        "gitea": world.containers.execute(places.project, "gitea", ["gitea", "--version"], user="git").output,
        "postgresql": world.containers.execute(places.project, "postgres", ["postgres", "--version"]).output,
        "restic": world.processes.run(["restic", "version"]).output,
    }
    numbers = {name: _VERSION.search(words) for name, words in said.items()}
    return {name: found[0] if found else "unknown" for name, found in numbers.items()} | {"suite": ops.__version__}
