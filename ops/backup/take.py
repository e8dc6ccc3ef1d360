"""Backups of one moment. The site stands still for a picture, and is copied while it goes on.

What a backup is of: the database as PostgreSQL exported it, Gitea's data as the file system photographed it, both while
Gitea was frozen; and the host's configuration. Each is a restic snapshot in the repository on this host, copied to the
one in the bucket; the manifest, written last, makes a backup of the three.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ops.backup import catalogue, manifest, prune_local
from ops.backup.contents import UNREADABLE, content, refs, secret_key, versions
from ops.backup.freeze import moment_of
from ops.backup.manifest import Manifest, Part, Unreadable
from ops.backup.repositories import DUMP, Repositories, repositories
from ops.backup.upload import upload_backup
from ops.config.paths import Places
from ops.config.schema import Site
from ops.errors import Degraded, Locked, OpsError, Refused, RolledBack, Unavailable
from ops.model import Report, in_bytes
from ops.step_timer import Timeline
from ops.wal import base_backups
from ops.world import World
from ops.world import postgres as world_postgres
from ops.world.lock import exclusive
from ops.world.restic import Restic, Stored

# A clock that is behind the newest backup by more is wrong, or was when that was taken.
_CLOCK_BEHIND = timedelta(minutes=1)


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
            made, left = upload_backup(site, world, places, timeline, made)
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
        base_backups.refresh(site, world, both.local, both.remote, world.containers.name(places.project, "postgres"))
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
    made, _ = upload_backup(site, world, places, timeline, made)
    return made


def _tidied(site: Site, world: World, places: Places, now: datetime, timeline: Timeline) -> tuple[str, ...]:
    """Once a day the host's own repository is tidied. The backup is made, whatever comes of that: what went wrong is returned."""
    note = places.local.with_name("tidied")
    if not prune_local.is_due(note, now):
        return ()
    try:
        verified = {each.identity for each in catalogue.verifications(site, world, until_passed=True) if each.passed}
        with timeline.step("tidy"):
            removed = prune_local.tidy(repositories(site, world, places).local, site.backup, verified)
    except OpsError as error:
        return (f"the backup is made, but this host's repository was not tidied: {error.message}",)
    prune_local.done(note, now)
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
        moment = moment_of(site, world, places, both, session, timeline, earlier)
        tag = manifest.identity_of(moment.when)
        with timeline.step("database"):
            said = content(session)
            dump = world_postgres.dump(postgres, moment.export)
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
            note = [prune_local.borrowing(stored["data"].snapshot)] if lender else []
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
