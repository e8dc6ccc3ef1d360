"""An update under way: where it works, what its journal says of it, how it went, and who is turned away meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ops.config.paths import COMPOSE_DIRECTORY, HostPaths
from ops.config.schema import Site
from ops.images import pins
from ops.images.versions import VersionStep
from ops.stack.maintenance import MaintenanceMode, end_maintenance, maintenance_mode
from ops.step_timer import StepTimer
from ops.update.plan import PlannedUpdate
from ops.world import World
from ops.world.journal import Journal

# What is photographed and goes back together: repositories and settings, and the database.
DATA = ("gitea", "postgresql")
# With the first of these the service goes away.
_AWAY = ("stop", "up", "undo")


@dataclass(frozen=True)
class UpdateContext:
    """Where an update works: the site and its doors, the stack's folder, and a folder of its own on the data disk."""

    site: Site
    world: World
    paths: HostPaths
    compose: Path = COMPOSE_DIRECTORY

    @property
    def folder(self) -> Path:
        """The update's own folder, on the disk of what it photographs."""
        return self.paths.data / ".update"

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
    def anew(self) -> Path:
        """What another major version of PostgreSQL makes of the database; then what was in its place, until the update is done."""
        return self.folder / "anew"

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


@dataclass(frozen=True)
class Pending:
    """What a journal that was not closed says: the move, what was so when it began, how far it came, since when it is away."""

    move: PlannedUpdate
    began: datetime
    backup: str
    migration: int
    canary: str
    automatic: bool
    rollback: bool = False
    steps: tuple[str, ...] = ()
    with_data: bool | None = None
    why: str = ""
    away_since: datetime | None = None

    @property
    def undoing(self) -> bool:
        """Whether it is on its way back."""
        return self.with_data is not None


class MaintenanceWindow:
    """The time for which a service is away, in ``seconds``. While Gitea is, visitors are turned away and told why.

    ``since`` is when it began, where a process did that was cut off. Whatever ends the block, they are let in again.
    """

    def __init__(self, at: UpdateContext, since: float | None = None) -> None:
        self.seconds = 0.0
        self._at, self._since, self._cut_off = at, since, since is not None
        self._ends = ExitStack()
        self._absence: MaintenanceMode | None = None

    def __enter__(self) -> MaintenanceWindow:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_in()

    def begin(self) -> None:
        """Take the time from now on, if it is not being taken yet."""
        self._since = self._at.world.clock.monotonic() if self._since is None else self._since

    def stop_gitea(self, reason: str, *, drain_seconds: float, at_most: int | None = None) -> None:
        """Stop Gitea, when the pushes under way have ended or ``drain_seconds`` are over; visitors are told the reason.

        It is waited for until it ends by itself, ``at_most`` so many seconds.
        """
        at = self._at
        absence = self._absence or self._ends.enter_context(
            maintenance_mode(at.site, at.world, reason, project=at.paths.project, drain_seconds=drain_seconds)
        )
        self._absence = absence
        self.begin()
        absence.stop(at_most=at_most)

    def give_back(self) -> None:
        """Free the port of git's ssh, before Gitea's container starts."""
        if self._absence:
            self._absence.free_ssh_port()

    def let_in(self) -> None:
        """Let everyone in again, whether this process turned them away or one that was cut off."""
        self._absence = None
        self._ends.close()
        if self._cut_off:
            end_maintenance(self._at.world, self._at.paths.project)
            self._cut_off = False

    def end(self) -> None:
        """The service answers again."""
        if self._since is not None:
            self.seconds = round(self.seconds + self._at.world.clock.monotonic() - self._since, 2)
            self._since = None


@dataclass
class Progress:
    """How an update went, for its report: the time of each step, and for how long the site was away."""

    timer: StepTimer
    outage: MaintenanceWindow

    @property
    def away(self) -> float:
        """For how many seconds it was away until now."""
        return self.outage.seconds


@dataclass(frozen=True)
class Run:
    """An update under way."""

    at: UpdateContext
    pending: Pending
    story: Progress


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
        if found and not found.away_since and each["step"] in _AWAY and "at" in each:
            found = replace(found, away_since=datetime.fromisoformat(each["at"]))
    return found


def begin_record(pending: Pending) -> dict[str, Any]:
    """Return the record that a journal begins with."""
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
        PlannedUpdate(record["service"], here, there, VersionStep(record["size"])),
        datetime.fromisoformat(record["began"]),
        record["backup"],
        record["migration"],
        record["canary"],
        record["automatic"],
        record["rollback"],
    )


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
