"""The history of updates on this data disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError
from ops.images import pins
from ops.model import Report
from ops.stack.handover import REPLACEABLE
from ops.timeline_chart import Mark, TimelineChart, to_document
from ops.update.journal import Pending, Progress, UpdateContext
from ops.world import World

HISTORY = "updates/history/"


def history(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Return the updates that ran on this data disk, the oldest first."""
    at = UpdateContext(site, world, paths or HostPaths())
    entries = read_entries(at)
    lines = tuple(map(_line, entries))
    with_charts = [each | {"course": to_document(course_of(each))} for each in entries]
    return Report("update", False, f"{len(entries)} updates", {"updates": with_charts}, lines)


def course_of(entry: Mapping[str, Any]) -> TimelineChart:
    """Return the chart of an entry: its steps, and marks at the start and the end of the time without Gitea."""
    steps: Mapping[str, float] = entry["durations"]
    # A rolled back update has both steps; Gitea answers again only after the later one.
    last = "back" if "back" in steps else "up"
    elapsed, marks = 0.0, []
    for name, seconds in steps.items():
        if name == "picture":
            marks.append(Mark("Gitea is stopped", round(elapsed, 2)))
        elapsed += seconds
        # An update of nginx does not interrupt the service.
        if name == last and entry["service"] not in REPLACEABLE:
            marks.append(Mark("the service answers", round(elapsed, 2)))
    return TimelineChart(f"{_step_of(entry)}: {entry['outcome']}", steps, tuple(marks))


def write_entry(at: UpdateContext, pending: Pending, progress: Progress, outcome: str, why: str) -> dict[str, Any]:
    """Add an entry to the history on the disk and in the bucket, and return it. An unreachable bucket is not an error."""
    planned = pending.planned
    entry = {
        "service": planned.service,
        "from": str(planned.current),
        "to": str(planned.target),
        "began": pending.began.isoformat(),
        "ended": at.world.clock.now().isoformat(),
        "automatic": pending.automatic,
        "outcome": outcome,
        "why": why,
        "with_data": bool(pending.with_data),
        "away": progress.away,
        "backup": pending.backup,
        "durations": dict(progress.timer.seconds),
    }
    if not any(_is_same(each, entry) for each in read_entries(at)[-1:]):
        # Not sorted: the order of the steps counts.
        at.world.files.append(at.history, json.dumps(entry))
    key = f"{HISTORY}{pending.began:%Y%m%dT%H%M%SZ}-{planned.service}-{outcome.replace(' ', '-')}.json"
    try:
        at.world.aws.write_object(at.site.backup.bucket, key, json.dumps(entry).encode())
    except OpsError as error:
        at.world.tell(f"the bucket has no record of it: {error.message}")
    return entry


def read_entries(at: UpdateContext) -> list[dict[str, Any]]:
    """Return the updates recorded on this data disk, the oldest first."""
    if not at.history.exists():
        return []
    found = []
    for line in at.history.read_text(encoding="utf-8").splitlines():
        # A full disk or a kill may truncate a line; the other lines still count.
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both entries are of the same update: a run that was killed after the line writes it again."""
    return all(one[key] == other[key] for key in ("began", "service", "outcome"))


def _step_of(entry: Mapping[str, Any]) -> str:
    current, target = (pins.pin_from(entry[name]).tag for name in ("from", "to"))
    return f"{entry['service']} {current} -> {target}"


def _line(entry: Mapping[str, Any]) -> str:
    step = f"{entry['began'][:19]} {_step_of(entry)}: {entry['outcome']}, unavailable for {entry['away']:.1f} s"
    backup = f", backup {entry['backup']} before it" if entry.get("backup") else ""
    return step + backup + (f": {entry['why']}" if entry["why"] else "")
