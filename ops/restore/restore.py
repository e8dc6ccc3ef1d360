"""A backup becomes the site again. All of it is fetched and compared beside the running site, and only then put in its place.

Until the switch nothing of the site is touched. The switch itself is renaming: of Gitea's folder and of its database, and
the way back is renaming again. The journal says that a switch is under way; whoever finds it goes back.
"""

from __future__ import annotations

import configparser
import hashlib
import os

from ops.backup import contents, repositories, take
from ops.backup.catalogue import choose, known, passed_over
from ops.backup.manifest import Manifest
from ops.config.paths import Places
from ops.config.schema import Site
from ops.errors import Degraded, OpsError, Refused, RolledBack
from ops.images.pins import pin_from
from ops.model import Agree, Report, Secret
from ops.restore.one_repository import restore_repository, write_hooks
from ops.restore.plan import Facts, Wish, judge, plan
from ops.restore.staging import (
    ASIDE,
    Origin,
    clear_fetched,
    have_beside,
    lines_of_log,
    log_wished,
    sources_of,
    staging_of,
)
from ops.restore.switch import put_in_place, undo_interrupted
from ops.stack import accounts
from ops.stack.maintenance import away
from ops.step_timer import Timeline
from ops.world import World
from ops.world.lock import exclusive
from ops.world.restic import folder_of


def restore(site: Site, world: World, *, wish: Wish, agree: Agree, places: Places | None = None) -> Report:
    """Make the site what a backup says it was.

    Raises Refused when there is no such backup, it does not fit, it is not what its manifest says or no one agrees: then
    nothing was touched. Raises OpsError when it could not be fetched, RolledBack when the restored site does not come up
    and the one before is back, Stranded when that does not come up either, and Degraded when all is done except that the
    administrator of the backup's time cannot sign in with today's password.
    """
    places = places or Places()
    with exclusive(places.lock, world.clock.now(), "ops restore"):
        undo_interrupted(world, places)
        both = repositories.repositories(site, world, places)
        backups = known(site, world, both, wish.needed)
        chosen = choose(backups, wish.identity, wish.at)
        facts = _facts(world, places, chosen, wish)
        log = log_wished(site, world, places, chosen, wish)
        # One repository is of no version and no key, and mostly small; restic says when there is no room for it.
        problems = () if wish.repository else judge(chosen, facts, log.plan.base.size if log else 0)
        if problems:
            raise Refused("\n".join(problems), "nothing was touched")
        over = passed_over(backups, chosen, wish.identity, wish.at)
        lines = (*plan(chosen, facts, wish, world.clock.now()), *lines_of_log(chosen, log), *over)
        if wish.rehearse:
            told = {"identity": chosen.identity, "passed_over": over, "plan": list(lines)}
            return Report("restore", False, f"would restore {chosen.identity}", told, lines)
        agree(site.name, lines)
        if wish.repository:
            return restore_repository(world, places, both, chosen, wish.repository)
        return _restore_site(site, world, places, chosen, Origin(both, log, facts.picture))


def resume(site: Site, world: World, *, places: Places | None = None) -> Report:
    """Go back to the site as it was when a restore was cut off in its switch; else change nothing."""
    places = places or Places()
    with exclusive(places.lock, world.clock.now(), "ops restore --resume"):
        undone = undo_interrupted(world, places)
        if not undone and staging_of(places).data.exists():
            world.tell("a restore was cut off while it fetched: what it had fetched is removed")
            clear_fetched(world, places)
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
    both = repositories.repositories(site, world, places)
    chosen = choose(known(site, world, both), wish.identity, wish.at)
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


def _restore_site(site: Site, world: World, places: Places, chosen: Manifest, origin: Origin) -> Report:
    timeline, staging = Timeline(world), staging_of(places)
    try:
        until, origin = have_beside(site, world, places, chosen, origin, timeline)
    except OpsError as failed:
        if failed.exit_code != OpsError.exit_code:
            raise
        raise RolledBack(f"nothing was restored, the site was not touched: {failed.message}", failed.hint) from failed
    with away(site, world, "A backup is being put in its place.", project=places.project) as absence:
        began = world.clock.monotonic()
        put_in_place(site, world, places, chosen, absence, timeline)
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


def _let_in(site: Site, world: World, places: Places) -> None:
    """The administrator's password may have been rotated since the backup: Secrets Manager's is the one that counts."""
    write_hooks(world, places)
    try:
        accounts.ensure_admin(site, world)
    except OpsError as failed:
        raise Degraded(
            f"the site is restored, but its administrator cannot sign in: {failed.message}", "ops accounts ensure-admin"
        ) from failed


def _facts(world: World, places: Places, chosen: Manifest, wish: Wish) -> Facts:
    # The image's tag and not what the program says of itself: a Gitea that does not come up is a reason to restore.
    (image,) = [each.image for each in world.containers.services(places.project) if each.name == "gitea"]
    picture = None if wish.fetch or wish.repository else take.picture_of(world, places, chosen)
    return Facts(pin_from(image).tag, world.subvolumes.free(places.data), contents.secret_key(places), picture)
