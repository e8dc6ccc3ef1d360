"""An update succeeds, or was never there. Whatever ends it, the journal on the data disk says what was under way.

The new image is pulled and a backup is taken while the site runs. Then Gitea is stopped, data and database are photographed,
and the new version starts on them. It stays when it is well; else image and data go back together. Who finds a journal that
was not closed finishes or undoes, by what is the case then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ops import accounts, backup, catalogue, health, notify, offers, pins, releases, trial
from ops.accounts import LOCALHOST
from ops.away import DRAIN_SECONDS, Absence, away, let_in
from ops.backup import Places, in_bytes
from ops.certs import COMPOSE_DIRECTORY
from ops.config import Site
from ops.errors import Degraded, OpsError, Refused, RolledBack, Stranded, Unavailable
from ops.manifest import Manifest
from ops.model import Report
from ops.offers import Offer
from ops.picture import Course, Mark, document_of
from ops.pins import WITH_DATA, Pin
from ops.releases import Step, Taker
from ops.timeline import Timeline
from ops.world import World
from ops.world.containers import Service
from ops.world.journal import Journal
from ops.world.lock import exclusive

Agree = Callable[[str, Sequence[str]], None]

HISTORY = "updates/history/"
# What is photographed and goes back together: repositories and settings, and the database.
_DATA = ("gitea", "postgresql")
# Room that an image needs beside those that are there, and what a migration may write beside the database's own size.
_ROOM = 1 << 30
# nginx asks for Gitea's address once a second; a Gitea that it does not reach then is the judgement's business.
_REACHED_SECONDS = 10.0
# Of Gitea itself, so that it can be asked while visitors are turned away.
_WELL = ("curl", "--fail", "--silent", "--max-time", "2", "--output", "/dev/null", "http://127.0.0.1:3000/api/healthz")


@dataclass(frozen=True)
class Wish:
    """What is to be updated: a service (else all that an operator need not name), to a tag (else the newest).

    ``automatic`` takes what the policy allows, when the window is open. ``rehearse`` only tells the plan.
    """

    service: str = ""
    to: str = ""
    automatic: bool = False
    rehearse: bool = False


@dataclass(frozen=True)
class Move:
    """One step of one service, from a pin to another."""

    service: str
    here: Pin
    there: Pin
    step: Step

    @property
    def with_data(self) -> bool:
        """Whether the new version may change data, so that the way back needs a picture of it."""
        return self.service in WITH_DATA

    def __str__(self) -> str:
        return f"{self.service} {self.here.tag} -> {self.there.tag} ({self.step.name.lower()})"


@dataclass(frozen=True)
class Facts:
    """What there is before an update: probes that are red, free bytes, the database's size.

    ``photographs`` is whether the file system takes pictures of the data; ``undrilled`` says why the backups are not to be relied on.
    """

    red: tuple[str, ...]
    free_data: int
    free_images: int
    database: int
    photographs: bool
    undrilled: str


@dataclass(frozen=True)
class Pending:
    """What a journal that was not closed says: the move, what was so when it began, and how far it came."""

    move: Move
    began: datetime
    backup: str
    migration: int
    canary: str
    automatic: bool
    rollback: bool = False
    steps: tuple[str, ...] = ()
    with_data: bool | None = None
    why: str = ""

    @property
    def undoing(self) -> bool:
        """Whether it is on its way back."""
        return self.with_data is not None


@dataclass(frozen=True)
class Place:
    """Where an update works: the site and its doors, the stack's folder, and a folder of its own on the data disk."""

    site: Site
    world: World
    places: Places
    compose: Path = COMPOSE_DIRECTORY

    @property
    def folder(self) -> Path:
        """The update's own folder, on the disk of what it photographs."""
        return self.places.data / ".update"

    @property
    def journal(self) -> Journal:
        """Not closed while an update is under way."""
        return self.world.journal(self.folder / "journal")

    @property
    def before(self) -> Path:
        """Pictures of the data before the last update of what has data."""
        return self.folder / "before"

    @property
    def undone(self) -> Path:
        """What was in the place of the pictures that were put back."""
        return self.folder / "undone"

    @property
    def kept(self) -> Path:
        """Says of which update the pictures are."""
        return self.folder / "kept.json"

    @property
    def history(self) -> Path:
        """A line for each update."""
        return self.folder / "history.jsonl"

    @property
    def last(self) -> Path:
        """Says when updates last began of their own."""
        return self.folder / "last-automatic"


class Outage:
    """The time for which a service is away, in ``seconds``. While Gitea is, visitors are turned away and told why.

    ``since`` is when it began, where a process did that was cut off. Whatever ends the block, they are let in again.
    """

    def __init__(self, at: Place, since: float | None = None) -> None:
        self.seconds = 0.0
        self._at, self._since, self._cut_off = at, since, since is not None
        self._ends = ExitStack()
        self._absence: Absence | None = None

    def __enter__(self) -> Outage:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_in()

    def begin(self) -> None:
        """Take the time from now on, if it is not being taken yet."""
        self._since = self._at.world.clock.monotonic() if self._since is None else self._since

    def stop_gitea(self, reason: str, *, drain_seconds: float) -> None:
        """Stop Gitea, when the pushes under way have ended or ``drain_seconds`` are over; visitors are told the reason."""
        at = self._at
        absence = self._absence or self._ends.enter_context(
            away(at.site, at.world, reason, project=at.places.project, drain_seconds=drain_seconds)
        )
        self._absence = absence
        self.begin()
        absence.stop()

    def give_back(self) -> None:
        """Free the port of git's ssh, before Gitea's container starts."""
        if self._absence:
            self._absence.give_back()

    def let_in(self) -> None:
        """Let everyone in again, whether this process turned them away or one that was cut off."""
        self._absence = None
        self._ends.close()
        if self._cut_off:
            let_in(self._at.world, self._at.places.project)
            self._cut_off = False

    def end(self) -> None:
        """The service answers again."""
        if self._since is not None:
            self.seconds = round(self.seconds + self._at.world.clock.monotonic() - self._since, 2)
            self._since = None


@dataclass
class Story:
    """How an update went, for its report: the time of each step, and for how long the site was away."""

    timeline: Timeline
    outage: Outage

    @property
    def away(self) -> float:
        """For how many seconds it was away until now."""
        return self.outage.seconds


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
    if wish.automatic and not at.journal.records() and not _is_due(at, now):
        return Report("update", False, "no update is due")
    with exclusive(at.places.lock, now, "ops update"):
        _resumed(at)
        if wish.automatic and not _is_due(at, now):
            return Report("update", False, "no update is due")
        found = offers.gather(site, world, offers.running(compose), now)
        moves = tuple(_looked_up(at, each) for each in plan(found, wish, site))
        # A registry that did not answer is asked again while the window is open.
        if wish.automatic and (moves or not any(each.unknown for each in found)):
            at.folder.mkdir(mode=0o700, exist_ok=True)
            world.files.write(at.last, now.isoformat().encode())
        if not moves:
            return Report("update", False, "there is nothing to update")
        facts = _facts(at)
        if problems := objections(moves, facts, wish):
            raise Refused("\n".join(problems), "nothing was changed; ops update --check")
        lines = (*map(str, moves), *consequences(moves, facts, site))
        if wish.rehearse:
            told = {**_documents(moves), "plan": list(lines)}
            return Report("update", False, f"would update {_names(moves)}", told, lines)
        agree(site.name, lines)
        reports = [_moved(at, each, automatic=wish.automatic) for each in moves]
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

    Raises Refused when nothing is kept to go back to, or no one agrees to what is lost; Stranded when the version before
    does not come up.
    """
    at = Place(site, world, places or Places(), compose)
    with exclusive(at.places.lock, world.clock.now(), "ops rollback"):
        _resumed(at)
        known = _kept(at)
        if known is None or not all((at.before / name).exists() for name in _DATA):
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
        for name in _DATA:
            world.subvolumes.remove(at.undone / name)
        at.journal.append(_begin(replace(known, rollback=True)))
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
        # The last that is there of the two: one that was taken back came up only then.
        if name == ("back" if "back" in steps else "up"):
            marks.append(Mark("it answers", round(reached, 2)))
    return Course(f"{entry['service']} {here} -> {there}: {entry['outcome']}", steps, tuple(marks))


def plan(found: Iterable[Offer], wish: Wish, site: Site) -> tuple[Move, ...]:
    """Return the moves that are wished for, in their order; raises Refused for one that no one may take so.

    Without a service an operator takes all but major steps, which are to be named, and what is held or has its own path.
    """
    known = {each.service: each for each in offers.in_order(found)}
    if wish.service and wish.service not in known:
        raise Refused(f"there is no service {wish.service}", f"one of: {', '.join(sorted(known))}")
    wanted = [known[wish.service]] if wish.service else list(known.values())
    moves = [_move(each, wish, site) for each in wanted]
    return tuple(each for each in moves if each and each.step)


def objections(moves: Sequence[Move], facts: Facts, wish: Wish) -> tuple[str, ...]:
    """Return each reason not to begin, with what would remove it."""
    problems = [f"the site is not well: {each}" for each in facts.red]
    if facts.free_images < _ROOM * len(moves):
        problems.append(
            f"{in_bytes(facts.free_images)} are free for images, {in_bytes(_ROOM * len(moves))} are needed: "
            "docker image prune --all"
        )
    if any(each.with_data for each in moves):
        if not facts.photographs:
            problems.append("Gitea's data and database lie on no btrfs: there would be no way back (host.data_device)")
        if facts.free_data < facts.database + _ROOM // 4:
            problems.append(
                f"{in_bytes(facts.free_data)} are free on the data disk, a migration may need "
                f"{in_bytes(facts.database + _ROOM // 4)}: enlarge host.data_gib and deploy"
            )
        if wish.automatic and facts.undrilled:
            problems.append(f"{facts.undrilled}: ops restore --drill")
    return tuple(problems)


def consequences(moves: Sequence[Move], facts: Facts, site: Site) -> tuple[str, ...]:
    """Return what a person has to know before agreeing."""
    lines = []
    if any(each.with_data for each in moves):
        lines.append("before: a backup of this moment; if the new version is not well, image and data go back together")
        lines.append("away: Gitea, from its stop until the new version answers; a migration takes its time")
        if facts.undrilled:
            lines.append(f"beware: {facts.undrilled} (ops restore --drill)")
    lines.append(f"watched: for {site.update.watch_seconds} s each, before the new version is the one to stay")
    return tuple(lines)


def pending_from(records: Iterable[Mapping[str, Any]]) -> Pending | None:
    """Return what a journal says is under way; None where it says nothing."""
    found: Pending | None = None
    for each in records:
        if each["step"] == "begin":
            found = _pending(each)
        elif found and each["step"] == "undo":
            found = replace(found, with_data=each["with_data"], why=each["why"])
        elif found:
            found = replace(found, steps=(*found.steps, each["step"]))
    return found


def needs_data(pending: Pending, migration: int | None, *, answers: bool) -> bool:
    """Tell whether the way back is image and data, or the image alone.

    The image alone goes back when the new version was seen to be well with the database as it was: then nothing was
    migrated, and what people wrote meanwhile stays. One that never came up served no one, and may have migrated half of it;
    ``migration`` is None where the database cannot tell.
    """
    if "up" not in pending.steps:
        return False
    came_up = answers or "judge" in pending.steps
    return not came_up or migration != pending.migration


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


def _move(offer: Offer, wish: Wish, site: Site) -> Move | None:
    if wish.automatic:
        tag = offers.automatic(offer, site)
        return _move_to(offer, tag) if tag else None
    if offer.unknown:
        if wish.service and offer.unreachable:
            raise Unavailable(offer.unknown, "nothing was changed; try again later")
        if wish.service:
            raise Refused(offer.unknown, "nothing was changed")
        return None
    tag = wish.to or offer.newest[0]
    if wish.to:
        releases.require_kin(offer.service, offer.here.release, wish.to)
    move = _move_to(offer, tag)
    held = offer.service in site.update.hold
    by = releases.taker(offer.service, move.step, site.update.policy(offer.service), held=held)
    if by is Taker.NO_ONE or by is Taker.GUIDED:
        if wish.service:
            raise Refused(offers.obstacle(offer.service, tag, by), "nothing was changed")
        return None
    return move if wish.service or move.step < Step.MAJOR else None


def _move_to(offer: Offer, tag: str) -> Move:
    there = releases.release_from(tag)
    assert there
    step = releases.step_between(offer.service, offer.here.release, there)
    if step is Step.NONE and offer.rebuilt:
        step = Step.DIGEST
    return Move(
        offer.service, offer.here, Pin(offer.here.name, tag, offer.digest if tag == offer.here.tag else ""), step
    )


def _facts(at: Place) -> Facts:
    places, world = at.places, at.world
    with world.database.session(world.containers.name(places.project, "postgres")) as session:
        ((size,),) = session.ask("SELECT pg_database_size(current_database())")
    return Facts(
        red=trial.red(at.site, world, project=places.project),
        free_data=world.subvolumes.free(places.data),
        free_images=world.subvolumes.free(at.compose),
        database=int(size),
        photographs=all(world.subvolumes.can_photograph(places.data / name) for name in _DATA),
        undrilled=catalogue.undrilled(at.site, world),
    )


def _is_due(at: Place, now: datetime) -> bool:
    last = datetime.fromisoformat(at.last.read_text(encoding="utf-8")) if at.last.exists() else None
    return releases.is_due(releases.window_from(at.site.update.window, at.site.timezone), last, now)


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
        at.journal.append(_begin(pending))
        try:
            _forward(Run(at, pending, story))
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
            for name in _DATA:
                at.world.subvolumes.remove(folder / name)


def _forward(run: Run) -> None:
    for name, deed in _steps(run.pending):
        _take(run, name, deed)


@dataclass(frozen=True)
class Run:
    """An update under way."""

    at: Place
    pending: Pending
    story: Story


Deed = Callable[[Run], None]


def _steps(pending: Pending) -> tuple[tuple[str, Deed], ...]:
    """The steps of an update, in their order; each is recorded before it is taken."""
    swap: tuple[tuple[str, Deed], ...] = (("pin", _pin), ("up", _up), ("judge", _judge))
    return (("stop", _stop), ("picture", _picture), *swap) if pending.move.with_data else swap


def _take(run: Run, name: str, deed: Deed) -> None:
    run.at.journal.append({"step": name})
    with run.story.timeline.step(name):
        deed(run)


def _stop(run: Run) -> None:
    move = run.pending.move
    what = "It" if move.service == "gitea" else "Its database"
    reason = f"{what} is being updated to {_plain(move.there)}."
    run.story.outage.stop_gitea(reason, drain_seconds=DRAIN_SECONDS)


def _plain(pin: Pin) -> str:
    """A version as visitors are told it: its numbers."""
    return ".".join(map(str, pin.release.numbers))


def _picture(run: Run) -> None:
    """Photograph data and database, while no one writes to either.

    A picture of a running server's whole folder is that of one whose power failed, and it starts from that ("Continuous
    Archiving", PostgreSQL's manual, "File System Level Backup"); after a checkpoint there is next to nothing to replay.
    """
    at, world = run.at, run.at.world
    with world.database.session(world.containers.name(at.places.project, "postgres"), "postgres") as session:
        session.ask("CHECKPOINT")
    world.subvolumes.settle(at.places.data)
    for name in _DATA:
        world.subvolumes.photograph(at.places.data / name, at.before / name)


def _pin(run: Run) -> None:
    _write_pin(run.at, run.pending.move.service, run.pending.move.there)


def _write_pin(at: Place, service: str, pin: Pin) -> None:
    environment = at.compose / ".env"
    text = environment.read_text(encoding="utf-8")
    at.world.files.write(environment, pins.into_environment(text, service, pin).encode())


def _up(run: Run) -> None:
    """Start the new version and wait until it answers; raises OpsError when it does not."""
    at, story, move = run.at, run.story, run.pending.move
    story.outage.begin()
    if move.service == "postgres":
        _run_by_pin(at, "postgres")
        _await(at, "postgres")
    _serve(at, story, move)


def _serve(at: Place, story: Story, move: Move) -> None:
    """Have what people use run by its pin, and let them in when it is well: Gitea, where what is moved has its data."""
    if move.with_data:
        story.outage.give_back()
    if move.service != "certbot":
        _run_by_pin(at, "gitea" if move.with_data else move.service)
        _await(at, "gitea" if move.with_data else move.service)
    story.outage.let_in()
    if move.with_data:
        _await_reached(at)
    story.outage.end()


def _await_reached(at: Place) -> None:
    """Wait until nginx, if it runs, has found the new container of a Gitea that is well."""
    began = at.world.clock.monotonic()
    while _is_up(at, "nginx") and not _is_reached(at):
        if at.world.clock.monotonic() - began > _REACHED_SECONDS:
            at.world.tell(f"nginx does not reach Gitea after {_REACHED_SECONDS:.0f} s")
            return
        at.world.clock.sleep(0.1)


def _judge(run: Run) -> None:
    """Try the new version and watch it; raises OpsError with what is wrong."""
    at, pending, move, site = run.at, run.pending, run.pending.move, run.at.site
    findings: tuple[str, ...] = ()
    if move.service == "certbot":
        findings = _certbot(at)
    elif move.with_data:
        release = (move.there if move.service == "gitea" else offers.running(at.compose)["gitea"]).release
        findings = trial.use(site, at.world, project=at.places.project, release=release, canary=pending.canary)
    if not findings and move.service != "certbot":
        seconds = site.update.watch_seconds
        findings = trial.watch(
            site, at.world, project=at.places.project, service=move.service, seconds=seconds
        ) or trial.red(site, at.world, project=at.places.project)
    if findings:
        raise OpsError("; ".join(findings))


def _certbot(at: Place) -> tuple[str, ...]:
    argv = ["docker", "compose", "--progress", "quiet", "--profile", "tools", "run", "--rm", "--no-deps", "--no-TTY"]
    done = at.world.processes.run([*argv, "certbot", "--version"], directory=at.compose)
    return (f"certbot --version: {done.output.strip()[-300:]}",) if done.code else ()


def _run_by_pin(at: Place, service: str) -> None:
    """Have one service run by what .env says. Its image is there: nothing is pulled while the site is away.

    It is made by Compose, and started by the engine: `compose up` waits for the health check of what the service depends on,
    and `compose up --no-deps` leaves a container that the next plain `compose up` makes anew, for the hash of its settings
    is without what it depends on.
    """
    argv = ["docker", "compose", "--progress", "quiet", "create", "--pull", "never", service]
    done = at.world.processes.run(argv, directory=at.compose)
    if done.code:
        raise OpsError(f"{service} cannot be started: {' '.join(done.output.split())[-400:]}")
    at.world.containers.start(at.places.project, service)


def _whole_stack(at: Place) -> None:
    """After a boot nothing runs yet; a new version is judged by the whole site."""
    done = at.world.processes.run(
        ["docker", "compose", "--progress", "quiet", "up", "--detach", "--pull", "never"], directory=at.compose
    )
    if done.code:
        raise OpsError(f"the stack cannot be started: {' '.join(done.output.split())[-400:]}")
    others = health.EXPECTED_SERVICES - {"gitea"}
    health.await_healthy(at.world, others, project=at.places.project, seconds=60 * at.site.update.healthy_minutes)


def _await(at: Place, service: str) -> None:
    """Wait until a service is well; raises OpsError as soon as it ends or starts anew, or when it takes too long."""
    world, began, restarts = at.world, at.world.clock.monotonic(), -1
    while True:
        one = next((each for each in world.containers.services(at.places.project) if each.name == service), None)
        if one is None or one.state != "running" or one.restarts > restarts >= 0:
            raise OpsError(f"{service} does not stay up: {one.state if one else 'it is gone'}")
        if _is_well(at, one):
            return
        restarts = one.restarts
        if world.clock.monotonic() - began > 60 * at.site.update.healthy_minutes:
            raise OpsError(f"{service} is not well after {at.site.update.healthy_minutes} min")
        world.clock.sleep(0.25)


def _is_well(at: Place, service: Service) -> bool:
    """Ask a service itself where that is sooner than its container's own check, which is due every few seconds."""
    if service.name == "gitea":
        return service.health == "healthy" or _answers(at)
    if service.name == "postgres":
        with suppress(OpsError), at.world.database.session(at.world.containers.name(at.places.project, "postgres")):
            return True
        return False
    return service.health == "healthy"


def _answers(at: Place) -> bool:
    """Whether Gitea itself says that it is well: visitors may be turned away."""
    try:
        return at.world.containers.execute(at.places.project, "gitea", _WELL).code == 0
    except OpsError:
        return False


def _is_reached(at: Place) -> bool:
    """Whether Gitea answers through nginx."""
    try:
        return at.world.web.https(at.site.domain, LOCALHOST, "GET", "/api/healthz").status == 200
    except OpsError:
        return False


def _is_up(at: Place, service: str) -> bool:
    """Whether the container of a service runs."""
    return any(
        (each.name, each.state) == (service, "running") for each in at.world.containers.services(at.places.project)
    )


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
    if pending.move.with_data and not pending.rollback:
        at.world.files.write(at.kept, json.dumps(_begin(pending), sort_keys=True).encode())
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
            pending = replace(pending, with_data=_with_data(at, pending), why=why)
        _go_back(at, pending, story)
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


def _with_data(at: Place, pending: Pending) -> bool:
    """Look whether the new version has changed data."""
    if not pending.move.with_data:
        return False
    migration = None
    with suppress(OpsError):
        with at.world.database.session(at.world.containers.name(at.places.project, "postgres")) as session:
            ((number,),) = session.ask("SELECT version FROM version")
        migration = int(number)
    return needs_data(pending, migration, answers=_is_new(at, pending) and _answers(at))


def _is_new(at: Place, pending: Pending) -> bool:
    return "up" in pending.steps and _is_up(at, "gitea")


def _go_back(at: Place, pending: Pending, story: Story) -> None:
    """Put image and, where it must be, data back, and wait until the version before is well. Each part may be done already."""
    world, project, move = at.world, at.places.project, pending.move
    at.journal.append({"step": "undo", "with_data": bool(pending.with_data), "why": pending.why})
    with story.timeline.step("back"):
        story.outage.begin()
        if move.with_data:
            # Whoever pushes to a version that is not well is not waited for.
            drain = DRAIN_SECONDS if pending.rollback else 0.0
            story.outage.stop_gitea(f"It is being taken back to {_plain(move.here)}.", drain_seconds=drain)
        if pending.with_data:
            world.containers.stop(project, "postgres")
            for name in _DATA:
                _put_back(at, name)
        _write_pin(at, move.service, move.here)
        if pending.with_data or move.service == "postgres":
            _run_by_pin(at, "postgres")
            _await(at, "postgres")
        _serve(at, story, move)
        if move.with_data:
            # People are in already; the containers' own checks are due every few seconds, and the next verb asks for them.
            seconds = 60 * at.site.update.healthy_minutes
            health.await_healthy(world, ["gitea", "postgres"], project=project, seconds=seconds)


def _put_back(at: Place, name: str) -> None:
    """Put a copy of a picture in the place of what is there, which is kept aside: two renamings, each in an instant."""
    disk, live, aside, copy = at.world.subvolumes, at.places.data / name, at.undone / name, at.folder / "copy" / name
    if live.exists() and not aside.exists():
        at.undone.mkdir(mode=0o700, exist_ok=True)
        disk.rename(live, aside)
    if not live.exists():
        disk.remove(copy)
        disk.revive(at.before / name, copy)
        disk.rename(copy, live)


def _resumed(at: Place) -> Report | None:
    """Finish or undo what was cut off; None when nothing was."""
    pending = pending_from(at.journal.records())
    if pending is None:
        return None
    gone = (at.world.clock.now() - pending.began).total_seconds()
    at.world.tell(f"an update was cut off: {pending.move}, after {(pending.steps or ('begin',))[-1]}")
    with Outage(at, since=at.world.clock.monotonic() - gone) as outage:
        return _gone_on(at, pending, Story(Timeline(at.world), outage))


def _gone_on(at: Place, pending: Pending, story: Story) -> Report:
    """Finish what a journal says is under way, or raise how undoing it went."""
    if pending.rollback:
        return _went_back(at, pending, story)
    if "commit" in pending.steps:
        return _commit(at, pending, story, pending.move.there, "updated")
    if not pending.undoing and "up" in pending.steps:
        try:
            _whole_stack(at)
            _up(Run(at, pending, story))
            _take(Run(at, pending, story), "judge", _judge)
        except OpsError as failed:
            raise _undone(at, pending_from(at.journal.records()) or pending, story, failed.message) from failed
        return _commit(at, pending, story, pending.move.there, "updated")
    raise _undone(at, pending, story, pending.why or "it was cut off")


def _went_back(at: Place, pending: Pending, story: Story) -> Report:
    """Go back because an operator asked for it, or finish that."""
    wanted = replace(pending, with_data=True, why="an operator asked for it")
    if "commit" not in pending.steps:
        try:
            _go_back(at, wanted, story)
        except OpsError as error:
            message = f"{pending.move.here.tag} does not come up with the data of then: {error.message}"
            raise Stranded(message, _way_out(at, wanted)) from error
    return _commit(at, wanted, story, pending.move.here, "went back")


def _forget(at: Place, now: datetime) -> None:
    """End what was kept for a way back that is no longer taken: it grows as the site changes."""
    known = _kept(at)
    if known and now - known.began > timedelta(days=at.site.update.keep_days):
        at.world.tell(f"the pictures of before {known.move} are {at.site.update.keep_days} days old, and go")
        at.world.files.remove(at.kept)
        for folder in (at.before, at.undone):
            for name in _DATA:
                at.world.subvolumes.remove(folder / name)


def _kept(at: Place) -> Pending | None:
    return _pending(json.loads(at.kept.read_bytes())) if at.kept.exists() else None


def _begin(pending: Pending) -> dict[str, Any]:
    move = pending.move
    return {
        "step": "begin",
        "service": move.service,
        "from": str(move.here),
        "to": str(move.there),
        "size": int(move.step),
        "began": pending.began.isoformat(),
        "backup": pending.backup,
        "migration": pending.migration,
        "canary": pending.canary,
        "automatic": pending.automatic,
        "rollback": pending.rollback,
    }


def _pending(record: Mapping[str, Any]) -> Pending:
    here, there = pins.pin_from(record["from"]), pins.pin_from(record["to"])
    return Pending(
        Move(record["service"], here, there, Step(record["size"])),
        datetime.fromisoformat(record["began"]),
        record["backup"],
        record["migration"],
        record["canary"],
        record["automatic"],
        record["rollback"],
    )


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
    return step + (f": {entry['why']}" if entry["why"] else "")


def _entries(at: Place) -> list[dict[str, Any]]:
    if not at.history.exists():
        return []
    return [json.loads(line) for line in at.history.read_text(encoding="utf-8").splitlines()]


def _tell(at: Place, subject: str, text: str) -> None:
    """Mail the operator. Whether that works changes nothing of the outcome."""
    notify.notify(at.site, at.world, subject=subject, text=text, directory=at.places.secrets)


def _names(moves: Iterable[Move]) -> str:
    return ", ".join(each.service for each in moves)


def _documents(moves: Iterable[Move]) -> dict[str, Any]:
    return {
        "moves": [
            {"service": each.service, "from": str(each.here), "to": str(each.there), "step": each.step.name.lower()}
            for each in moves
        ]
    }


def _all_of(reports: Sequence[Report], moves: Sequence[Move]) -> Report:
    if len(reports) == 1:
        return reports[0]
    facts = {"updates": [dict(each.facts) for each in reports]}
    return Report("update", True, f"updated {_names(moves)}", facts, tuple(each.summary for each in reports))
