"""How an update ends: committed, rolled back or stranded."""

from __future__ import annotations

import json
from dataclasses import replace

from ops.errors import Degraded, OpsError, RolledBack, Stranded
from ops.images import pins
from ops.images.pins import Pin
from ops.model import Report
from ops.stack import notify
from ops.stack.restart import requests_line
from ops.timeline_chart import to_document
from ops.update import data_check, pg_upgrade, steps
from ops.update.data_check import DataLostError
from ops.update.history import course_of, write_entry
from ops.update.journal import Pending, Progress, UpdateContext, begin_record, pending_from


def commit(at: UpdateContext, pending: Pending, progress: Progress, pin: Pin, outcome: str) -> Report:
    """Keep the pin: write it to the bucket, which deployments read, and add an entry to the history."""
    planned = pending.planned
    at.journal.append({"step": "commit"})
    try:
        updated = update_pins(at) | {planned.service: pin}
        at.world.aws.write_object(at.site.backup.bucket, pins.KEY, pins.to_json(updated))
    except OpsError as error:
        raise Degraded(
            f"{planned} is done, but it is not recorded in the bucket: {error.message}",
            "run ops update --resume; do not deploy before it succeeds",
            left_as=f"the site runs {planned.service} {pin.tag}",
        ) from error
    if planned.needs_pg_upgrade:
        pg_upgrade.clear(at)
    if planned.with_data and not pending.rollback:
        at.world.files.write(at.rollback_record, json.dumps(begin_record(pending), sort_keys=True).encode())
    elif pending.rollback:
        at.world.files.remove(at.rollback_record)
    data_check.clean(at, pending)
    entry = write_entry(at, pending, progress, outcome, "")
    at.journal.close()
    summary = f"{planned.service} is at {pin.tag}; it was unavailable for {progress.away:.1f} s"
    if planned.with_data:
        progress.facts["requests"] = progress.window.requests
        progress.lines = (*progress.lines, requests_line(progress.window.requests))
    _mail(
        at,
        f"{planned.service} {planned.current.tag} -> {planned.target.tag}: {outcome}",
        "\n".join([summary, *progress.lines]),
    )
    facts = {"service": planned.service, "from": str(planned.current), "to": str(pin), "outcome": outcome}
    return Report(
        "update",
        True,
        summary,
        facts
        | {"away": progress.away, "backup": pending.backup, "durations": progress.timer.seconds}
        | {"course": to_document(course_of(entry))}
        | progress.facts,
        progress.lines,
    )


def update_pins(at: UpdateContext) -> dict[str, Pin]:
    """Return the pins that updates wrote to the bucket."""
    bucket = at.site.backup.bucket
    exists = pins.KEY in at.world.aws.objects(bucket, pins.KEY)
    return pins.from_json(at.world.aws.read_object(bucket, pins.KEY)) if exists else {}


def undo(at: UpdateContext, pending: Pending, progress: Progress, failure: OpsError | str) -> OpsError:
    """Undo an update and return the error to raise: RolledBack, or Stranded if undoing it failed, too.

    ``failure`` is the error of the new version, or the reason in words.
    """
    planned, why = pending.planned, failure.message if isinstance(failure, OpsError) else failure
    try:
        if not pending.undoing:
            lost = isinstance(failure, DataLostError)
            pending = replace(pending, with_data=lost or steps.has_changed_data(at, pending), why=why)
        steps.go_back(at, pending, progress)
    except OpsError as again:
        write_entry(at, pending, progress, "stranded", f"{why}; {again.message}")
        message = f"{planned} failed ({why}), and {planned.current.tag} does not start again: {again.message}"
        _mail(at, f"{planned.service}: STRANDED", message)
        return stranded(at, pending, message)
    note = loss_note(at, pending)
    data_check.clean(at, pending)
    write_entry(at, pending, progress, "rolled back", why)
    at.journal.close()
    message = (
        f"{planned} failed and was rolled back to {planned.current.tag}, the site was unavailable for "
        f"{progress.away:.1f} s: {why}{note}"
    )
    _mail(at, f"{planned.service} {planned.current.tag} -> {planned.target.tag}: rolled back", message)
    return RolledBack(
        message,
        f"look at docker logs of {planned.service}, or give another version: ops update {planned.service} --to TAG",
        left_as=f"the site runs {planned.service} {planned.current.tag}",
    )


def stranded(at: UpdateContext, pending: Pending, message: str) -> Stranded:
    """Return the error for an update that could not be undone, with the backups that remain for a restore."""
    left_as = (
        f"the backup from before is {pending.backup}, the snapshots are in {at.snapshots}" if pending.backup else ""
    )
    return Stranded(
        message, "run ops update --resume to try again, then follow docs/runbooks/stranded.md", left_as=left_as
    )


def loss_note(at: UpdateContext, pending: Pending) -> str:
    """Return where the data written since the update began is kept, or an empty string."""
    if not (pending.with_data and "judge" in pending.steps):
        return ""
    return f"; the data written since {pending.began:%H:%M:%S} UTC is kept aside in {at.set_aside}"


def kept_update(at: UpdateContext) -> Pending | None:
    """Return the update that a rollback can undo, or None."""
    record = at.rollback_record
    return pending_from([json.loads(record.read_bytes())]) if record.exists() else None


def _mail(at: UpdateContext, subject: str, text: str) -> None:
    """Mail the operator. A failure to do so does not change the outcome."""
    notify.notify(at.site, at.world, subject=subject, text=text, directory=at.paths.secrets)
