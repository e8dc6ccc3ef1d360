"""Finds data that a new version lost in silence, by the canary and by counts of the whole database.

Both are taken while the old version runs. They are in a file beside the journal, so that a resuming run has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from ops.errors import OpsError
from ops.stack import accounts
from ops.update import available, canary, table_counts
from ops.update.canary import Part
from ops.update.journal import Pending, Run, UpdateContext
from ops.update.plan import PlannedUpdate
from ops.update.table_counts import Counts, Losses

# A count takes no longer than this before and after an update; a site with a million comments needs a few seconds.
_COUNT_SECONDS = 60.0
# While a failed version is undone, the site is unavailable or broken: the count gets less time.
_UNDO_SECONDS = 15.0


class DataLostError(OpsError):
    """The new version lost data: image and data go back together, whatever the database's migration number says."""


@dataclass(frozen=True)
class Expected:
    """The data that a new version has to return. ``backup`` is the identity of the update's backup, which tells updates apart.

    ``accepted`` are the tables and columns whose losses the operator accepts.
    """

    backup: str
    parts: tuple[Part, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    accepted: tuple[str, ...] = ()


def prepare(at: UpdateContext, planned: PlannedUpdate, backup: str, accepted: tuple[str, ...]) -> str:
    """Write the canary, count the database, record both, and return the canary's newest commit.

    Raises OpsError if the running version refuses the canary's repository, or the database cannot be read.
    """
    gitea = planned.current if planned.service == "gitea" else available.current_pins(at.compose)["gitea"]
    counts = _count(at, _COUNT_SECONDS)
    with accounts.token(at.site, at.world) as token:
        try:
            written = canary.write(at.site, at.world, token, gitea.release)
        except OpsError:
            # Leftovers would confuse the administrator; the next update would remove them, too.
            with suppress(OpsError):
                canary.remove(at.site, at.world, token)
            raise
    for name, why in written.skipped.items():
        at.world.tell(f"the canary has no {name}: {why}")
    skipped = {part.name: "its loss is accepted" for part in written.parts if _option(part) in accepted}
    parts = tuple(part for part in written.parts if part.name not in skipped)
    expected = Expected(backup, parts, {**written.skipped, **skipped}, counts, accepted)
    at.folder.mkdir(mode=0o700, exist_ok=True)
    at.world.files.write(at.expected, json.dumps(asdict(expected)).encode())
    return written.commit


def findings(run: Run) -> tuple[str, ...]:
    """Compare the new version's data with the old version's, and return each finding that is not lost data.

    Raises DataLostError for lost data. The report gets what was compared, what was not, and everything that became less.
    """
    at, expected = run.at, _expected(run.at, run.pending)
    if expected is None:
        at.world.tell("this update began without a count of its data: only the canary's commit is compared")
        return ()
    with accounts.token(at.site, at.world) as token:
        compared = canary.compare(at.site, at.world, token, expected.parts)
    after = _count(at, _COUNT_SECONDS)
    losses = table_counts.losses(expected.counts, after, expected.accepted)
    _report(run, expected, after, losses)
    lost = (*(compared.findings if compared.lost else ()), *losses.lost)
    if lost:
        raise DataLostError(
            f"{run.pending.planned.target.tag} lost data: {'; '.join(lost)}{_accept_options(expected, lost)}"
        )
    return compared.findings


def has_lost_rows(at: UpdateContext, pending: Pending) -> bool:
    """Whether the database has less than before the update, for an update that is undone before it was compared."""
    expected = _expected(at, pending)
    if expected is None or "up" not in pending.steps:
        return False
    try:
        after = _count(at, _UNDO_SECONDS)
    except OpsError:
        return False
    return bool(table_counts.losses(expected.counts, after, expected.accepted).lost)


def clean(at: UpdateContext, pending: Pending) -> None:
    """Remove the canary from the site and the record of it. What stays is reported, and the next update removes it."""
    if not (pending.planned.with_data and pending.canary):
        return
    try:
        with accounts.token(at.site, at.world) as token:
            canary.remove(at.site, at.world, token)
    except OpsError as error:
        at.world.tell(f"the canary was not removed, the next update removes it: {error.message}")
    at.world.files.remove(at.expected)


def _expected(at: UpdateContext, pending: Pending) -> Expected | None:
    """Return what this update has to compare; None for an update that an older ops began."""
    if not at.expected.exists():
        return None
    record = json.loads(at.expected.read_bytes())
    if record["backup"] != pending.backup:
        return None
    counts = record["counts"]
    return Expected(
        record["backup"],
        tuple(Part(**each) for each in record["parts"]),
        record["skipped"],
        Counts(counts["counted"], tuple(counts["uncounted"]), counts["migration"]),
        tuple(record["accepted"]),
    )


def _count(at: UpdateContext, seconds: float) -> Counts:
    counts = table_counts.count(at.world, at.world.containers.name(at.paths.project, "postgres"), seconds=seconds)
    if counts.uncounted:
        at.world.tell(
            f"{len(counts.uncounted)} of {len(counts.uncounted) + len(counts.counted)} tables and columns are not compared: "
            f"to count them takes more than {seconds:.0f} s"
        )
    return counts


def _report(run: Run, expected: Expected, after: Counts, losses: Losses) -> None:
    """Add to the report what was compared, and print everything that became less."""
    lines = table_counts.lines_of(losses)
    for line in lines:
        run.at.world.tell(line)
    run.progress.lines += (*(f"not in the canary: {name}: {why}" for name, why in expected.skipped.items()), *lines)
    run.progress.facts |= {
        "canary": {"compared": [part.name for part in expected.parts], "skipped": dict(expected.skipped)},
        "tables": {
            "compared": sum(name in expected.counts.counted for name in after.counted),
            "uncounted": sorted({*expected.counts.uncounted, *after.uncounted}),
            "removed": list(losses.removed),
            "shrunk": {name: list(numbers) for name, numbers in losses.shrunk.items()},
        },
    }


def _accept_options(expected: Expected, lost: Sequence[str]) -> str:
    """Return the options with which the operator accepts these losses."""
    parts = {part.name: _option(part) for part in expected.parts}
    lost_names = [each.partition(":")[0] for each in lost]
    options = [f"--accept-loss {parts.get(name, name.removeprefix('public.'))}" for name in lost_names]
    return f"; if its release notes say so: {' '.join(options)}"


def _option(part: Part) -> str:
    """Return how the option --accept-loss names a part of the canary."""
    return f"canary.{part.name.replace(' ', '-')}"
