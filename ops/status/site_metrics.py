"""The metrics of backups, updates and health, made again from the records that `ops backup status` and `ops health` read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ops import metrics
from ops.backup import catalogue
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.errors import OpsError
from ops.metrics import Sample
from ops.model import Report
from ops.stack import health
from ops.update import history
from ops.update.journal import UpdateContext
from ops.wal import segments
from ops.world import World

_MINUTE, _DAY = 60, 86400


def refresh(site: Site, world: World, *, paths: HostPaths | None = None) -> None:
    """Write the metrics of backups and updates. A source that cannot be read leaves its metrics out, and is reported."""
    if not metrics.are_wanted(site):
        return
    samples: list[Sample] = []
    for source in (_backups, _drills, _verifications, _wal, _prunes, _updates):
        try:
            samples += source(site, world, paths or HostPaths())
        except (OpsError, OSError, ValueError) as error:
            world.tell(f"no metrics from {source.__name__.strip('_')}: {error}")
    metrics.write(site, world, "records", samples)


def write_health(site: Site, world: World, report: Report) -> None:
    """Write the metrics of a report of `ops health`."""
    if not metrics.are_wanted(site):
        return
    checks: list[dict[str, Any]] = report.facts["probes"]
    samples = [Sample("health_check", float(each["healthy"]), {"check": each["name"]}) for each in checks]
    samples.append(Sample("health_last_run_timestamp_seconds", world.clock.now().timestamp()))
    metrics.write(site, world, "health", samples)


def _backups(site: Site, world: World, _: HostPaths) -> Iterator[Sample]:
    yield Sample("backup_rpo_seconds", float(site.backup.rpo_minutes * _MINUTE))
    newest = catalogue.newest(site, world)
    if newest:
        yield Sample("backup_last_success_timestamp_seconds", newest.moment.timestamp())
        yield Sample("backup_size_bytes", float(newest.stored))
        yield Sample("backup_duration_seconds", (newest.finished - newest.moment).total_seconds())
        yield Sample("backup_pause_seconds", newest.paused)


def _drills(site: Site, world: World, _: HostPaths) -> Iterator[Sample]:
    yield Sample("drill_interval_seconds", float(site.backup.drill_days * _DAY))
    drills = catalogue.drills(site, world)
    if not drills:
        return
    last = drills[-1]
    yield Sample("drill_last_run_timestamp_seconds", last.began.timestamp())
    yield Sample("drill_passed", float(last.passed))
    yield Sample("drill_recovery_point_seconds", last.rpo_seconds)
    yield Sample("drill_recovery_time_seconds", last.rto_seconds)
    if passed := [each for each in drills if each.passed]:
        yield Sample("drill_last_success_timestamp_seconds", passed[-1].began.timestamp())


def _verifications(site: Site, world: World, _: HostPaths) -> Iterator[Sample]:
    found = catalogue.verifications(site, world)
    if not found:
        return
    yield Sample("verification_last_run_timestamp_seconds", found[-1].began.timestamp())
    yield Sample("verification_passed", float(found[-1].passed))
    if passed := [each for each in found if each.passed]:
        yield Sample("verification_last_success_timestamp_seconds", passed[-1].began.timestamp())


def _wal(_: Site, __: World, ___: HostPaths) -> Iterator[Sample]:
    if not health.STREAM.exists():
        return
    streamed = segments.state_from_json(health.STREAM.read_text(encoding="utf-8"))
    if streamed:
        yield Sample("wal_last_archived_timestamp_seconds", streamed.covered.timestamp())


def _prunes(site: Site, world: World, _: HostPaths) -> Iterator[Sample]:
    last = catalogue.last_prune(site, world)
    if last:
        yield Sample("prune_last_success_timestamp_seconds", last.timestamp())


def _updates(site: Site, world: World, paths: HostPaths) -> Iterator[Sample]:
    last = {each["service"]: each for each in history.read_entries(UpdateContext(site, world, paths))}
    for service, entry in last.items():
        labels = {"service": service}
        ended = datetime.fromisoformat(entry["ended"])
        yield Sample("update_last_run_timestamp_seconds", ended.timestamp(), labels)
        yield Sample("update_failed", float(entry["outcome"] != "updated"), labels)
        yield Sample("update_away_seconds", float(entry["away"]), labels)
    for service in site.update.hold:
        yield Sample("update_held", 1.0, {"service": service})
