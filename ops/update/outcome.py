"""How an update ends: committed, rolled back or stranded."""

from __future__ import annotations

import json
from dataclasses import replace

from ops.errors import Degraded, OpsError, RolledBack, Stranded
from ops.images import pins
from ops.images.pins import Pin
from ops.model import Report
from ops.stack import notify
from ops.timeline_chart import to_document
from ops.update import pg_upgrade, steps
from ops.update.history import course_of, write_entry
from ops.update.journal import Pending, Progress, UpdateContext, begin_record, pending_from


def commit(at: UpdateContext, pending: Pending, story: Progress, pin: Pin, outcome: str) -> Report:
    """Make the pin the one that stays: in the bucket, for whoever deploys, and in the history."""
    at.journal.append({"step": "commit"})
    try:
        known = update_pins(at)
        at.world.aws.write_object(at.site.backup.bucket, pins.KEY, pins.to_json(known | {pending.move.service: pin}))
    except OpsError as error:
        raise Degraded(
            f"{pending.move} is done, but the bucket does not know it: {error.message}",
            "until it does, do not deploy; ops update --resume",
        ) from error
    if pending.move.anew:
        pg_upgrade.clear(at)
    if pending.move.with_data and not pending.rollback:
        at.world.files.write(at.kept, json.dumps(begin_record(pending), sort_keys=True).encode())
    elif pending.rollback:
        at.world.files.remove(at.kept)
    entry = write_entry(at, pending, story, outcome, "")
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
        | {"away": story.away, "backup": pending.backup, "durations": story.timer.seconds}
        | {"course": to_document(course_of(entry))},
    )


def update_pins(at: UpdateContext) -> dict[str, Pin]:
    """Return the pins in the bucket that updates have proven."""
    bucket = at.site.backup.bucket
    there = pins.KEY in at.world.aws.objects(bucket, pins.KEY)
    return pins.from_json(at.world.aws.read_object(bucket, pins.KEY)) if there else {}


def undone(at: UpdateContext, pending: Pending, story: Progress, why: str) -> OpsError:
    """Go back, and return how that went."""
    move = pending.move
    try:
        if not pending.undoing:
            pending = replace(pending, with_data=steps.has_changed_data(at, pending), why=why)
        steps.go_back(at, pending, story)
    except OpsError as again:
        write_entry(at, pending, story, "stranded", f"{why}; {again.message}")
        message = f"{move} failed ({why}), and {move.here.tag} does not come back: {again.message}"
        _tell(at, f"{move.service}: STRANDED", message)
        return Stranded(message, way_out(at, pending))
    lost = loss_note(at, pending)
    write_entry(at, pending, story, "rolled back", why)
    at.journal.close()
    message = f"{move} failed, and {move.here.tag} is back, the site was away for {story.away:.1f} s: {why}{lost}"
    _tell(at, f"{move.service} {move.here.tag} -> {move.there.tag}: rolled back", message)
    return RolledBack(message, f"docker logs of {move.service}; another version: ops update {move.service} --to TAG")


def way_out(at: UpdateContext, pending: Pending) -> str:
    """Return what an operator does after an update that could not be undone."""
    saved = f"; the backup of before is {pending.backup}, pictures are in {at.before}" if pending.backup else ""
    return f"docs/runbooks/stranded.md; ops update --resume tries again{saved}"


def loss_note(at: UpdateContext, pending: Pending) -> str:
    """Return where data written since the update began is kept, or an empty string."""
    if not (pending.with_data and "judge" in pending.steps):
        return ""
    return f"; what was written since {pending.began:%H:%M:%S} UTC is kept aside in {at.undone}"


def kept_update(at: UpdateContext) -> Pending | None:
    """Return the update that a rollback can undo, or None."""
    return pending_from([json.loads(at.kept.read_bytes())]) if at.kept.exists() else None


def _tell(at: UpdateContext, subject: str, text: str) -> None:
    """Mail the operator. Whether that works changes nothing of the outcome."""
    notify.notify(at.site, at.world, subject=subject, text=text, directory=at.paths.secrets)
