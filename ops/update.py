"""An update succeeds, or was never there. Whatever ends it, the journal on the data disk says what was under way.

The new image is pulled and a backup is taken while the site runs. Then Gitea is stopped, data and database are photographed,
and the new version starts on them. It stays when it is well; else image and data go back together. Who finds a journal that
was not closed finishes or undoes, by what is the case then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ops import accounts, backup, catalogue, conversion, notify, offers, pins, releases, swap, trial
from ops.config import Site
from ops.errors import Degraded, OpsError, Refused, RolledBack, Stranded, Unavailable
from ops.manifest import Manifest
from ops.model import Agree, Report
from ops.moves import Facts, Move, Wish, consequences, documents, names, objections, plan
from ops.paths import COMPOSE_DIRECTORY, Places
from ops.picture import Course, Mark, document_of
from ops.pins import Pin
from ops.succession import NGINX
from ops.timeline import Timeline
from ops.underway import DATA, Outage, Pending, Place, Run, Story, begin_record, pending_from
from ops.world import World
from ops.world.lock import exclusive

HISTORY = "updates/history/"


def update(
    site: Site,
    world: World,
    *,
    wish: Wish,
    agree: Agree,
    places: Places | None = None,
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Take services a step further, each wholly or not at all.

    Raises Refused when something stands in the way or no one agrees, Unavailable when an image cannot be had: then nothing
    was changed. Raises RolledBack when a new version was not well and everything is as it was before, Stranded when that
    is not well either, Degraded when the update is done but could not be recorded, Locked while another operation runs.
    """
    at = Place(site, world, places or Places(), compose)
    now = world.clock.now()
    if wish.automatic and not at.journal.records() and not _is_due(at, now) and not _outlived(at, now):
        return Report("update", False, "no update is due")
    with exclusive(at.places.lock, now, "ops update"):
        if _resumed(at) is None and wish.automatic:
            _forget(at, now)
        if wish.automatic and not _is_due(at, now):
            return Report("update", False, "no update is due")
        moves = _wanted(at, wish, now)
        if not moves:
            return Report("update", False, "there is nothing to update")
        facts = _facts(at)
        if problems := objections(moves, facts, wish):
            raise Refused("\n".join(problems), "nothing was changed; ops update --check")
        lines = (*map(str, moves), *consequences(moves, facts, site))
        if wish.rehearse:
            told = {**documents(moves), "plan": list(lines)}
            return Report("update", False, f"would update {names(moves)}", told, lines)
        agree(site.name, lines)
        reports = _each_moved(at, moves, automatic=wish.automatic)
    return _all_of(reports, moves)


def resume(site: Site, world: World, *, places: Places | None = None, compose: Path = COMPOSE_DIRECTORY) -> Report:
    """Finish or undo an update that was cut off; else change nothing but end what was kept long enough.

    Raises RolledBack or Stranded as ``update`` does.
    """
    at = Place(site, world, places or Places(), compose)
    with exclusive(at.places.lock, world.clock.now(), "ops update --resume"):
        done = _resumed(at)
        if done is None:
            _forget(at, world.clock.now())
    return done or Report("update", False, "no update was cut off")


def rollback(
    site: Site,
    world: World,
    *,
    agree: Agree,
    rehearse: bool = False,
    places: Places | None = None,
    compose: Path = COMPOSE_DIRECTORY,
) -> Report:
    """Go back to the version before the last update of what has data, with the data of then.

    Raises Refused when nothing is kept to go back to, or no one agrees to what is lost, Unavailable when the image of before
    cannot be had any more: then nothing was changed. Raises Stranded when the version before does not come up.
    """
    at = Place(site, world, places or Places(), compose)
    with exclusive(at.places.lock, world.clock.now(), "ops rollback"):
        _resumed(at)
        known = _kept(at)
        if known is None or not all((at.before / name).exists() for name in DATA):
            raise Refused(
                "nothing is kept to go back to", "docs/runbooks/update.md, under: further back than what is kept"
            )
        lost = world.clock.now() - known.began
        lines = (
            f"back: {known.move.service} {known.move.there.tag} -> {known.move.here.tag}, with the data of then",
            f"lost: what was written since {known.began:%Y-%m-%d %H:%M:%S} UTC, {lost.total_seconds() / 3600:.1f} h; "
            f"it is kept aside in {at.undone}",
        )
        if rehearse:
            told = {"service": known.move.service, "plan": list(lines)}
            return Report("rollback", False, "would go back", told, lines)
        agree(site.name, lines)
        # No container holds the image of before, and whoever made room may have removed it.
        world.containers.pull(known.move.here.name, known.move.here.digest)
        for name in DATA:
            world.subvolumes.remove(at.undone / name)
        at.journal.append(begin_record(replace(known, rollback=True)))
        with Outage(at) as outage:
            story = Story(Timeline(world), outage)
            _went_back(at, replace(known, rollback=True), story)
    return Report(
        "rollback",
        True,
        f"{known.move.service} is {known.move.here.tag} again; the site was away for {story.away:.1f} s",
        {"service": known.move.service, "to": str(known.move.here), "away": story.away},
        (f"kept aside: {at.undone}",),
    )


def history(site: Site, world: World, *, places: Places | None = None) -> Report:
    """Return what updates there were on this data disk, the oldest first."""
    at = Place(site, world, places or Places())
    entries = _entries(at)
    lines = tuple(map(_told, entries))
    drawn = [each | {"course": document_of(course_of(each))} for each in entries]
    return Report("update", False, f"{len(entries)} updates", {"updates": drawn}, lines)


def course_of(entry: Mapping[str, Any]) -> Course:
    """Return an update of the history as it is drawn: its steps, and from when until when people were without Gitea."""
    here, there = (pins.pin_from(entry[name]).tag for name in ("from", "to"))
    steps: Mapping[str, float] = entry["durations"]
    reached, marks = 0.0, []
    for name, seconds in steps.items():
        if name == "picture":
            marks.append(Mark("Gitea is stopped", round(reached, 2)))
        reached += seconds
        # The last that is there of the two: one that was taken back came up only then. Of nginx no one is without.
        if name == ("back" if "back" in steps else "up") and entry["service"] != NGINX:
            marks.append(Mark("it answers", round(reached, 2)))
    return Course(f"{entry['service']} {here} -> {there}: {entry['outcome']}", steps, tuple(marks))


def empty(made: Manifest) -> str:
    """Return why a backup that was just taken is none, "" when it is one (go-gitea/gitea issue 34067: 22 bytes, exit 0)."""
    for name, part in made.parts.items():
        if part.size <= 0:
            return f"its {name} is empty"
    if made.rows.get("user", 0) < 1:
        return "it has no user"
    if made.rows.get("repository", 0) and not made.repositories:
        return f"it has none of {made.rows['repository']} repositories"
    return ""


def _facts(at: Place) -> Facts:
    places, world = at.places, at.world
    with world.database.session(world.containers.name(places.project, "postgres")) as session:
        ((size,),) = session.ask("SELECT pg_database_size(current_database())")
        strangers = conversion.strangers(session)
    return Facts(
        red=trial.red(at.site, world, project=places.project),
        free_data=world.subvolumes.free(places.data),
        free_images=world.subvolumes.free(at.compose),
        database=int(size),
        photographs=all(world.subvolumes.can_photograph(places.data / name) for name in DATA),
        undrilled=catalogue.undrilled(at.site, world),
        strangers=strangers,
    )


def _is_due(at: Place, now: datetime) -> bool:
    last = datetime.fromisoformat(at.last.read_text(encoding="utf-8")) if at.last.exists() else None
    return releases.is_due(releases.window_from(at.site.update.window, at.site.timezone), last, now)


def _wanted(at: Place, wish: Wish, now: datetime) -> tuple[Move, ...]:
    """Return the steps that are wished for, each to the bytes that its tag stands for now; raises Unavailable when no one can tell."""
    found = offers.gather(at.site, at.world, offers.running(at.compose), now)
    planned = plan(found, wish, at.site)
    moves = tuple(_looked_up(at, each) for each in planned if not (wish.automatic and _is_given_up(at, each)))
    unknown = [f"{each.service}: {each.unknown}" for each in found if each.unknown]
    # A registry that did not answer is asked again while the window is open.
    if wish.automatic and (moves or not unknown):
        at.folder.mkdir(mode=0o700, exist_ok=True)
        at.world.files.write(at.last, now.isoformat().encode())
    if unknown and not moves and not wish.automatic:
        raise Unavailable("; ".join(unknown), "nothing was changed; try again later")
    return moves


def _each_moved(at: Place, moves: Sequence[Move], *, automatic: bool) -> list[Report]:
    """Take each step. Where no one asked for them, one that fails and is taken back stops no other, and is raised at the end."""
    reports: list[Report] = []
    failures: list[OpsError] = []
    for each in moves:
        try:
            reports.append(_moved(at, each, automatic=automatic))
        except (RolledBack, Refused, Unavailable) as failed:
            if not automatic:
                raise
            at.world.tell(f"{each}: {failed.message}")
            failures.append(failed)
    if failures:
        first = failures[0]
        first.message = "; ".join([*(each.message for each in failures), *(each.summary for each in reports)])
        raise first
    return reports


def _is_given_up(at: Place, move: Move) -> bool:
    """Whether a release was taken back when it was tried last, or someone went back from it: no one tries it again unasked."""
    tried = [
        entry["outcome"]
        for entry in _entries(at)
        if entry["service"] == move.service and pins.pin_from(entry["to"]).tag == move.there.tag
    ]
    if tried[-1:] in (["rolled back"], ["went back"]):
        at.world.tell(f"{move}: was taken back when it was tried last; ops update {move.service} tries it again")
        return True
    return False


def _moved(at: Place, move: Move, *, automatic: bool) -> Report:
    """Take one step, from the pull to the pin that stays."""
    with Outage(at) as outage:
        story = Story(Timeline(at.world), outage)
        try:
            pending = _prepared(at, move, story, automatic=automatic)
        except OpsError as error:
            if error.exit_code == 1:
                raise Refused(f"{move} cannot begin: {error.message}", error.hint or "nothing was changed") from error
            raise
        _tidy(at, move)
        at.journal.append(begin_record(pending))
        try:
            swap.forward(Run(at, pending, story))
        except OpsError as failed:
            raise _undone(at, pending_from(at.journal.records()) or pending, story, failed.message) from failed
        except BaseException:
            _undone(at, pending_from(at.journal.records()) or pending, story, "it was interrupted")
            raise
        return _commit(at, pending, story, move.there, "updated")


def _looked_up(at: Place, move: Move) -> Move:
    """Name the bytes that a tag stands for now: these are agreed to, and no others are taken, though the tag may move on."""
    try:
        digest = move.there.digest or at.world.registry.digest(move.there.image)
    except OpsError as error:
        if error.exit_code != OpsError.exit_code:
            raise
        raise Refused(error.message, "nothing was changed; ops update --check") from error
    return replace(move, there=replace(move.there, digest=digest))


def _prepared(at: Place, move: Move, story: Story, *, automatic: bool) -> Pending:
    """All that disturbs no one: the image, the backup, what is so before. Nothing is changed when it fails."""
    world, places = at.world, at.places
    with story.timeline.step("pull"):
        world.containers.pull(move.there.name, move.there.digest)
    identity, migration, canary = "", 0, ""
    if move.with_data:
        with story.timeline.step("backup"):
            made = backup.of_this_moment(at.site, world, places)
            if why := empty(made):
                raise Refused(f"the backup of this moment is none: {why}", "nothing was changed; ops backup take")
        identity, migration = made.identity, made.migration
        with story.timeline.step("canary"), accounts.token(at.site, world) as token:
            canary = trial.prepare(at.site, world, token)
    return Pending(move, world.clock.now(), identity, migration, canary, automatic)


def _tidy(at: Place, move: Move) -> None:
    """Make room for what this update keeps; what an earlier one kept was kept until now."""
    at.folder.mkdir(mode=0o700, exist_ok=True)
    if move.with_data:
        at.world.files.remove(at.kept)
        for folder in (at.before, at.undone):
            for name in DATA:
                at.world.subvolumes.remove(folder / name)


def _commit(at: Place, pending: Pending, story: Story, pin: Pin, outcome: str) -> Report:
    """Make the pin the one that stays: in the bucket, for whoever deploys, and in the history."""
    at.journal.append({"step": "commit"})
    try:
        known = _proven(at)
        at.world.aws.write_object(at.site.backup.bucket, pins.KEY, pins.written(known | {pending.move.service: pin}))
    except OpsError as error:
        raise Degraded(
            f"{pending.move} is done, but the bucket does not know it: {error.message}",
            "until it does, do not deploy; ops update --resume",
        ) from error
    if pending.move.anew:
        conversion.clear(at)
    if pending.move.with_data and not pending.rollback:
        at.world.files.write(at.kept, json.dumps(begin_record(pending), sort_keys=True).encode())
    elif pending.rollback:
        at.world.files.remove(at.kept)
    entry = _record(at, pending, story, outcome, "")
    at.journal.close()
    move = pending.move
    summary = f"{move.service} is {pin.tag}; it was away for {story.away:.1f} s"
    _tell(at, f"{move.service} {move.here.tag} -> {move.there.tag}: {outcome}", summary)
    facts = {"service": move.service, "from": str(move.here), "to": str(pin), "outcome": outcome}
    return Report(
        "update",
        True,
        summary,
        facts
        | {"away": story.away, "backup": pending.backup, "durations": story.timeline.seconds}
        | {"course": document_of(course_of(entry))},
    )


def _proven(at: Place) -> dict[str, Pin]:
    bucket = at.site.backup.bucket
    there = pins.KEY in at.world.aws.objects(bucket, pins.KEY)
    return pins.read(at.world.aws.read_object(bucket, pins.KEY)) if there else {}


def _undone(at: Place, pending: Pending, story: Story, why: str) -> OpsError:
    """Go back, and return how that went."""
    move = pending.move
    try:
        if not pending.undoing:
            pending = replace(pending, with_data=swap.has_changed_data(at, pending), why=why)
        swap.go_back(at, pending, story)
    except OpsError as again:
        _record(at, pending, story, "stranded", f"{why}; {again.message}")
        message = f"{move} failed ({why}), and {move.here.tag} does not come back: {again.message}"
        _tell(at, f"{move.service}: STRANDED", message)
        return Stranded(message, _way_out(at, pending))
    lost = _lost(at, pending)
    _record(at, pending, story, "rolled back", why)
    at.journal.close()
    message = f"{move} failed, and {move.here.tag} is back, the site was away for {story.away:.1f} s: {why}{lost}"
    _tell(at, f"{move.service} {move.here.tag} -> {move.there.tag}: rolled back", message)
    return RolledBack(message, f"docker logs of {move.service}; another version: ops update {move.service} --to TAG")


def _way_out(at: Place, pending: Pending) -> str:
    saved = f"; the backup of before is {pending.backup}, pictures are in {at.before}" if pending.backup else ""
    return f"docs/runbooks/stranded.md; ops update --resume tries again{saved}"


def _lost(at: Place, pending: Pending) -> str:
    if not (pending.with_data and "judge" in pending.steps):
        return ""
    return f"; what was written since {pending.began:%H:%M:%S} UTC is kept aside in {at.undone}"


def _resumed(at: Place) -> Report | None:
    """Finish or undo what was cut off; None when nothing was."""
    pending = pending_from(at.journal.records())
    if pending is None:
        return None
    at.world.tell(f"an update was cut off: {pending.move}, after {(pending.steps or ('begin',))[-1]}")
    since = None
    if pending.away_since and pending.move.service != NGINX:
        since = at.world.clock.monotonic() - (at.world.clock.now() - pending.away_since).total_seconds()
    with Outage(at, since=since) as outage:
        return _gone_on(at, pending, Story(Timeline(at.world), outage))


def _gone_on(at: Place, pending: Pending, story: Story) -> Report:
    """Finish what a journal says is under way, or raise how undoing it went."""
    if pending.rollback:
        return _went_back(at, pending, story)
    if "commit" in pending.steps:
        return _commit(at, pending, story, pending.move.there, "updated")
    if not pending.undoing and "up" in pending.steps:
        try:
            swap.whole_stack(at)
            swap.up(Run(at, pending, story))
            swap.take(Run(at, pending, story), "judge", swap.judge)
        except OpsError as failed:
            raise _undone(at, pending_from(at.journal.records()) or pending, story, failed.message) from failed
        return _commit(at, pending, story, pending.move.there, "updated")
    raise _undone(at, pending, story, pending.why or "it was cut off")


def _went_back(at: Place, pending: Pending, story: Story) -> Report:
    """Go back because an operator asked for it, or finish that."""
    wanted = replace(pending, with_data=True, why="an operator asked for it")
    if "commit" not in pending.steps:
        try:
            swap.go_back(at, wanted, story)
        except OpsError as error:
            message = f"{pending.move.here.tag} does not come up with the data of then: {error.message}"
            raise Stranded(message, _way_out(at, wanted)) from error
    return _commit(at, wanted, story, pending.move.here, "went back")


def _forget(at: Place, now: datetime) -> None:
    """End what was kept for a way back that is no longer taken: it grows as the site changes."""
    if known := _outlived(at, now):
        at.world.tell(f"the pictures of before {known.move} are {at.site.update.keep_days} days old, and go")
        at.world.files.remove(at.kept)
        for folder in (at.before, at.undone):
            for name in DATA:
                at.world.subvolumes.remove(folder / name)


def _outlived(at: Place, now: datetime) -> Pending | None:
    """What is kept for a way back, when it has been kept long enough."""
    known = _kept(at)
    return known if known and now - known.began > timedelta(days=at.site.update.keep_days) else None


def _kept(at: Place) -> Pending | None:
    return pending_from([json.loads(at.kept.read_bytes())]) if at.kept.exists() else None


def _record(at: Place, pending: Pending, story: Story, outcome: str, why: str) -> dict[str, Any]:
    """Add to the history, on the disk and in the bucket, and return what was added. The bucket's silence changes nothing."""
    entry = {
        "service": pending.move.service,
        "from": str(pending.move.here),
        "to": str(pending.move.there),
        "began": pending.began.isoformat(),
        "ended": at.world.clock.now().isoformat(),
        "automatic": pending.automatic,
        "outcome": outcome,
        "why": why,
        "with_data": bool(pending.with_data),
        "away": story.away,
        "backup": pending.backup,
        "durations": dict(story.timeline.seconds),
    }
    if not any(_same(each, entry) for each in _entries(at)[-1:]):
        # Not sorted: the steps are in their order.
        at.world.files.append(at.history, json.dumps(entry))
    key = f"{HISTORY}{pending.began:%Y%m%dT%H%M%SZ}-{pending.move.service}-{outcome.replace(' ', '-')}.json"
    try:
        at.world.aws.write_object(at.site.backup.bucket, key, json.dumps(entry).encode())
    except OpsError as error:
        at.world.tell(f"the bucket does not know of it: {error.message}")
    return entry


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a record that was cut off after its line is recorded again."""
    return all(one[key] == other[key] for key in ("began", "service", "outcome"))


def _told(entry: Mapping[str, Any]) -> str:
    here, there = (pins.pin_from(entry[name]).tag for name in ("from", "to"))
    step = f"{entry['began'][:19]} {entry['service']} {here} -> {there}: {entry['outcome']}, away {entry['away']:.1f} s"
    kept = f", backup {entry['backup']} before it" if entry.get("backup") else ""
    return step + kept + (f": {entry['why']}" if entry["why"] else "")


def _entries(at: Place) -> list[dict[str, Any]]:
    if not at.history.exists():
        return []
    found = []
    for line in at.history.read_text(encoding="utf-8").splitlines():
        # A line that was cut off, by a full disk or a kill, takes no other with it.
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def _tell(at: Place, subject: str, text: str) -> None:
    """Mail the operator. Whether that works changes nothing of the outcome."""
    notify.notify(at.site, at.world, subject=subject, text=text, directory=at.places.secrets)


def _all_of(reports: Sequence[Report], moves: Sequence[Move]) -> Report:
    if len(reports) == 1:
        return reports[0]
    facts = {"updates": [dict(each.facts) for each in reports]}
    return Report("update", True, f"updated {names(moves)}", facts, tuple(each.summary for each in reports))
