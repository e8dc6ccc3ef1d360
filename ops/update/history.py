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
from ops.stack.nginx_handover import NGINX
from ops.timeline_chart import Mark, TimelineChart, to_document
from ops.update.journal import Pending, Progress, UpdateContext
from ops.world import World

HISTORY = "updates/history/"


def history(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Return what updates there were on this data disk, the oldest first."""
    at = UpdateContext(site, world, paths or HostPaths())
    entries = read_entries(at)
    lines = tuple(map(_told, entries))
    drawn = [each | {"course": to_document(course_of(each))} for each in entries]
    return Report("update", False, f"{len(entries)} updates", {"updates": drawn}, lines)


def course_of(entry: Mapping[str, Any]) -> TimelineChart:
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
    return TimelineChart(f"{entry['service']} {here} -> {there}: {entry['outcome']}", steps, tuple(marks))


def write_entry(at: UpdateContext, pending: Pending, story: Progress, outcome: str, why: str) -> dict[str, Any]:
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
        "durations": dict(story.timer.seconds),
    }
    if not any(_same(each, entry) for each in read_entries(at)[-1:]):
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


def read_entries(at: UpdateContext) -> list[dict[str, Any]]:
    """Return the updates recorded on this data disk, the oldest first."""
    if not at.history.exists():
        return []
    found = []
    for line in at.history.read_text(encoding="utf-8").splitlines():
        # A line that was cut off, by a full disk or a kill, takes no other with it.
        with suppress(ValueError):
            found.append(json.loads(line))
    return found
