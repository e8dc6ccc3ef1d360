"""An update in progress: its paths, the records of its journal, its timing, and maintenance mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ops.config.paths import COMPOSE_DIRECTORY, HostPaths
from ops.config.schema import Site
from ops.images import pins
from ops.images.versions import VersionStep
from ops.stack.maintenance import MaintenanceMode, end_maintenance, maintenance_mode
from ops.stack.restart import requests_facts
from ops.step_timer import StepTimer
from ops.update.plan import PlannedUpdate
from ops.world import World
from ops.world.journal import Journal

# The subvolumes of a snapshot, which are rolled back together: repositories and settings, and the database.
DATA = ("gitea", "postgresql")
# The service becomes unavailable with the first of these steps.
_UNAVAILABLE_FROM = ("stop", "up", "undo")


@dataclass(frozen=True)
class UpdateContext:
    """What an update works on: the site and its adapters, the stack's folder, and a folder of its own on the data disk."""

    site: Site
    world: World
    paths: HostPaths
    compose: Path = COMPOSE_DIRECTORY

    @property
    def folder(self) -> Path:
        """The update's own folder, on the same disk as the data."""
        return self.paths.data / ".update"

    @property
    def journal(self) -> Journal:
        """The journal; it has records while an update is in progress."""
        return self.world.journal(self.folder / "journal")

    @property
    def snapshots(self) -> Path:
        """The snapshots from before the last update of a service with data."""
        return self.folder / "before"

    @property
    def set_aside(self) -> Path:
        """The data that a rollback replaced with the snapshots."""
        return self.folder / "undone"

    @property
    def pg_upgrade_folder(self) -> Path:
        """The database's copy for another major version of PostgreSQL; after the exchange, the old database."""
        return self.folder / "anew"

    @property
    def expected(self) -> Path:
        """The canary and the counts of an update in progress, which the new version has to show again."""
        return self.folder / "expected.json"

    @property
    def rollback_record(self) -> Path:
        """The record of the update that the snapshots belong to."""
        return self.folder / "kept.json"

    @property
    def history(self) -> Path:
        """The history, one line for each update."""
        return self.folder / "history.jsonl"

    @property
    def last_automatic(self) -> Path:
        """The time at which automatic updates last started."""
        return self.folder / "last-automatic"


@dataclass(frozen=True)
class Pending:
    """An update that its journal leaves open: the planned update, the state before it, the steps so far.

    ``away_since`` is when the service became unavailable. ``with_data`` is None unless the update is being undone.
    """

    planned: PlannedUpdate
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
        """Whether the update is being undone."""
        return self.with_data is not None


class MaintenanceWindow:
    """The time for which a service is unavailable, in ``seconds``, and maintenance mode while Gitea is stopped.

    ``since`` is the monotonic time at which an interrupted run began it. Leaving the block always ends maintenance mode.
    """

    def __init__(self, at: UpdateContext, since: float | None = None) -> None:
        self.seconds = 0.0
        self._at, self._since, self._interrupted = at, since, since is not None
        self._ends = ExitStack()
        self._mode: MaintenanceMode | None = None
        self._modes: list[MaintenanceMode] = []

    def __enter__(self) -> MaintenanceWindow:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_maintenance_mode()

    def start_clock(self) -> None:
        """Start measuring, unless a measurement runs already."""
        self._since = self._at.world.clock.monotonic() if self._since is None else self._since

    def stop_gitea(self, reason: str, *, drain_seconds: float, at_most: int | None = None) -> None:
        """Start maintenance mode with this reason, then stop Gitea.

        Running transfers get ``drain_seconds`` to end. Gitea gets ``at_most`` seconds to stop by itself (None: Docker's own
        limit).
        """
        at = self._at
        mode = self._mode or self._ends.enter_context(
            maintenance_mode(at.site, at.world, reason, project=at.paths.project, drain_seconds=drain_seconds)
        )
        self._mode = mode
        self.start_clock()
        mode.stop(at_most=at_most)

    def end_maintenance_mode(self) -> None:
        """End maintenance mode, whether this run or an interrupted one started it."""
        self._ends.close()
        if self._mode:
            self._modes.append(self._mode)
            self._mode = None
        if self._interrupted:
            end_maintenance(self._at.world, self._at.paths.project)
            self._interrupted = False

    @property
    def requests(self) -> dict[str, Any]:
        """What this meant for requests, as ``ops.stack.restart.requests_facts`` returns it."""
        return requests_facts(self._modes)

    def stop_clock(self) -> None:
        """Stop measuring: the service answers again."""
        if self._since is not None:
            self.seconds = round(self.seconds + self._at.world.clock.monotonic() - self._since, 2)
            self._since = None


@dataclass
class Progress:
    """What an update adds to its report: the time of each step and without the service, further facts and lines."""

    timer: StepTimer
    window: MaintenanceWindow
    facts: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def away(self) -> float:
        """For how many seconds the service was unavailable so far."""
        return self.window.seconds


@dataclass(frozen=True)
class Run:
    """An update in progress."""

    at: UpdateContext
    pending: Pending
    progress: Progress


def pending_from(records: Iterable[Mapping[str, Any]]) -> Pending | None:
    """Return the update that the records of a journal leave open; None if there are none."""
    found: Pending | None = None
    for each in records:
        if each["step"] == "begin":
            found = _pending(each)
        elif found:
            found = _after(found, each)
    return found


def _after(pending: Pending, record: Mapping[str, Any]) -> Pending:
    """Return an update with one more record of its journal."""
    step = record["step"]
    if step == "undo":
        pending = replace(pending, with_data=record["with_data"], why=record["why"])
    else:
        pending = replace(pending, steps=(*pending.steps, step))
    if not pending.away_since and step in _UNAVAILABLE_FROM and "at" in record:
        pending = replace(pending, away_since=datetime.fromisoformat(record["at"]))
    return pending


def begin_record(pending: Pending) -> dict[str, Any]:
    """Return the first record of a journal."""
    planned = pending.planned
    return {
        "step": "begin",
        "service": planned.service,
        "from": str(planned.current),
        "to": str(planned.target),
        "size": int(planned.step),
        "began": pending.began.isoformat(),
        "backup": pending.backup,
        "migration": pending.migration,
        "canary": pending.canary,
        "automatic": pending.automatic,
        "rollback": pending.rollback,
    }


def _pending(record: Mapping[str, Any]) -> Pending:
    current, target = pins.pin_from(record["from"]), pins.pin_from(record["to"])
    return Pending(
        PlannedUpdate(record["service"], current, target, VersionStep(record["size"])),
        datetime.fromisoformat(record["began"]),
        record["backup"],
        record["migration"],
        record["canary"],
        record["automatic"],
        record["rollback"],
    )


def needs_data(pending: Pending, migration: int | None, *, answers: bool) -> bool:
    """Tell whether a rollback needs image and data, or the image alone.

    The image alone suffices if the new version was seen healthy on a database that it did not migrate. Then everything that
    users wrote in the meantime stays. A version that never started served no user, and it may have migrated half of the
    database. ``migration`` is the number in the database, None if it could not be read.
    """
    if "up" not in pending.steps:
        return False
    came_up = answers or "judge" in pending.steps
    return not came_up or migration != pending.migration
