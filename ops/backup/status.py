"""List the backups, and check them against the site file: the 3-2-1 rule, age, verification, drills, RTO and RPO."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ops import report
from ops.backup import catalogue, manifest, records, replication, repositories, witness
from ops.backup.manifest import Backup, Manifest
from ops.backup.records import Drill, Verification
from ops.backup.witness import Folder
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.model import CLOCK_DRIFT, Probe, Report, in_bytes
from ops.world import World


@dataclass(frozen=True)
class BackupInventory:
    """The backups, oldest first, the snapshots on this host, and the records of verifications and drills.

    ``two_disks`` is whether Gitea's data and the repository on this host are on two file systems. ``replicated`` is a
    backup's name with S3's status of its copy in the second region; None when no backup is old enough to have one.
    ``last_prune`` is when the operator last pruned the bucket. ``replica`` has S3's replication status of the objects that a
    restore in the second region needs, as ``replication.statuses`` returns it. ``folders`` are the
    repositories' folders in Gitea's data now.
    """

    backups: tuple[Backup, ...]
    local: Collection[str]
    two_disks: bool
    verifications: tuple[Verification, ...]
    drills: tuple[Drill, ...]
    replicated: tuple[str, str] | None = None
    folders: tuple[Folder, ...] = ()
    last_prune: datetime | None = None
    replica: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> tuple[Manifest, ...]:
        """The manifests of the whole backups, oldest first."""
        return catalogue.whole_backups(self.backups)


def backups(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """List the backups in the bucket, the newest last. One with missing parts is listed as broken and not counted."""
    both = repositories.repositories(site, world, paths or HostPaths())
    found = records.with_records(
        catalogue.list_backups(site, world, both), catalogue.verifications(site, world), catalogue.drills(site, world)
    )
    broken = sum(each.manifest is None for each in found)
    summary = f"{len(found) - broken} backups" + (f", and {broken} broken that cannot be restored" if broken else "")
    rows = tuple(_row(each) for each in found)
    return Report("backup", False, summary, {"backups": [_document(each) for each in found]}, _lines(rows))


def status(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Check the site's backups against its file. Exit code 3 when a finding is red, each with its remedy."""
    facts = _inventory(site, world, paths or HostPaths())
    findings = check(site, facts, world.clock.now())
    failing = sum(not each.healthy for each in findings)
    summary = (
        f"{failing} of {len(findings)} findings are red"
        if failing
        else "3 copies on 2 media, 1 of them off-site: all findings are healthy"
    )
    details = {"findings": [vars(each) for each in findings], "backups": len(facts.whole)}
    return Report("backup", False, summary, details, tuple(map(report.line, findings)), 3 if failing else 0)


def _inventory(site: Site, world: World, paths: HostPaths) -> BackupInventory:
    both = repositories.repositories(site, world, paths)
    verifications, drills = catalogue.verifications(site, world), catalogue.drills(site, world)
    facts = BackupInventory(
        records.with_records(catalogue.list_backups(site, world, both), verifications, drills),
        {each.identity for each in both.local.snapshots_or_none() or ()},
        paths.data.stat().st_dev != paths.local.parent.stat().st_dev,
        verifications,
        drills,
        folders=witness.folders(paths.live),
        last_prune=catalogue.last_prune(site, world),
    )
    if site.backup.replica_region and (old := replication_candidate(facts.whole, world.clock.now())):
        status_of_newest = world.aws.replication(site.backup.bucket, manifest.key_of(old.identity))
        facts = replace(facts, replicated=(old.identity, status_of_newest), replica=replication.statuses(site, world))
    return facts


def check(site: Site, facts: BackupInventory, now: datetime) -> tuple[Probe, ...]:
    """Return every finding about the backups, each healthy or with its remedy."""
    whole = facts.whole
    if not whole:
        return (Probe("copies", False, "there is no whole backup", "run ops backup take"), *_broken(facts))
    newest, since = whole[-1], whole[0].moment
    unverified = records.check_verifications(facts.verifications, since, now)
    drill_overdue = records.check_drills(facts.drills, site.backup.drill_days, since, now)
    return (
        _copies(newest, facts),
        _media(facts),
        _off_site(site, facts),
        _repositories(newest, facts),
        check_age(newest.moment, site.backup.rpo_minutes, now),
        Probe("verified", not unverified, unverified or _last(facts.verifications), "run ops backup verify"),
        Probe(
            "drilled",
            not drill_overdue,
            drill_overdue or _last(facts.drills),
            f"run {records.drill_remedy(facts.drills, now)}",
        ),
        _pruned(facts.last_prune, since, now),
        *_measured(site, facts.drills),
        *_broken(facts),
    )


def check_age(newest: datetime, rpo_minutes: int, now: datetime) -> Probe:
    """Return whether the newest backup is recent enough and not from the future, which means a wrong clock."""
    if newest - now > CLOCK_DRIFT:
        seen = f"the newest backup is of {newest:%Y-%m-%d %H:%M} UTC, in the future"
        return Probe("age", False, seen, "check this host's clock: timedatectl")
    minutes = max(0, int((now - newest).total_seconds() // 60))
    seen = f"the newest backup is {minutes} min old, {rpo_minutes} min are allowed"
    return Probe("age", now - newest <= timedelta(minutes=rpo_minutes), seen, "run ops backup take")


def _copies(newest: Manifest, facts: BackupInventory) -> Probe:
    missing = [name for name, part in newest.parts.items() if part.local not in facts.local]
    if missing:
        seen = f"2: the data, the bucket. {' and '.join(missing)} of {newest.identity} missing on this host"
        return Probe("copies", False, seen, "run ops backup take")
    return Probe("copies", True, f"3: the data, this host's repository, the bucket; all with {newest.identity}")


def _media(facts: BackupInventory) -> Probe:
    if not facts.two_disks:
        seen = "the data and this host's repository are on one disk"
        return Probe("media", False, seen, "give the data its own disk (host.data_device), then run ops deploy")
    return Probe("media", True, "2 disks of this host, and S3")


def _repositories(newest: Manifest, facts: BackupInventory) -> Probe:
    """Compare the newest backup with Gitea's table of its moment, the folders on the disk, and the backup before.

    A folder that was renamed or got a file since the moment has a later time of change, and does not count.
    """
    unchanged = [each for each in facts.folders if each.changed < newest.moment.timestamp()]
    absent = witness.missing(newest.repositories, (), unchanged)
    short = [f"backup {newest.identity} has no {', '.join(absent[:5])}, {len(absent)} in all"] if absent else []
    if found := [*witness.check_manifest(newest, catalogue.before(facts.backups, newest)), *short]:
        remedy = "run ops backup take, then compare its manifest with Gitea's list of repositories"
        return Probe("repositories", False, "; ".join(found[:5]), remedy)
    return Probe("repositories", True, f"{len(newest.repositories)}, as in Gitea's database and on the data disk")


def replication_candidate(whole: Iterable[Manifest], now: datetime) -> Manifest | None:
    """Return the newest backup that S3 had an hour to replicate to the second region; most objects take 15 minutes."""
    return max(
        (each for each in whole if now - each.finished >= replication.REPLICATED_WITHIN),
        key=lambda each: each.moment,
        default=None,
    )


def _off_site(site: Site, facts: BackupInventory) -> Probe:
    bucket, replica = f"S3 in {site.aws.region}", site.backup.replica_region
    if not replica:
        return Probe("elsewhere", True, bucket)
    if facts.replicated is None:
        return Probe("elsewhere", True, f"{bucket}; no backup is an hour old yet, so none is expected in {replica}")
    identity, status = facts.replicated
    if status == "COMPLETED" and (missing := replication.in_words(site, facts.replica)):
        return Probe("elsewhere", False, missing, f"run with your account's number: {replication.batch_command(site)}")
    if status == "COMPLETED":
        return Probe("elsewhere", True, f"{bucket}, and replicated by S3 to {replica}: backup {identity} is COMPLETED")
    seen = (
        f"S3 has not replicated backup {identity} to {replica}: {status}"
        if status
        else f"S3 reports no replication to {replica}"
    )
    return Probe(
        "elsewhere", False, seen, "run ops deploy, then check the bucket's replication metrics in the S3 console"
    )


def _pruned(last: datetime | None, since: datetime, now: datetime) -> Probe:
    overdue = records.check_prune(last, since, now)
    seen = overdue or (f"the last prune was on {last:%Y-%m-%d %H:%M} UTC" if last else "not yet, and not due yet")
    return Probe("pruned", not overdue, seen, "run ops backup prune on the operator's machine")


def _measured(site: Site, drills: Iterable[Drill]) -> Iterable[Probe]:
    passed = max((each for each in drills if each.passed), key=lambda each: each.began, default=None)
    if passed is None:
        return
    rto, rpo = passed.rto_seconds / 60, passed.rpo_seconds / 60
    yield Probe(
        "RTO",
        rto <= site.backup.rto_minutes,
        f"the last drill took {rto:.1f} min, {site.backup.rto_minutes} min are allowed",
        "set a faster host.instance_type or a larger backup.rto_minutes in the site file, then run ops deploy",
    )
    yield Probe(
        "RPO",
        rpo <= site.backup.rpo_minutes,
        f"the last drill would have lost {rpo:.1f} min, {site.backup.rpo_minutes} min are allowed",
        "run systemctl list-timers gitea-suite-backup.timer, or set a smaller backup.every_minutes",
    )


def _broken(facts: BackupInventory) -> Iterable[Probe]:
    for each in facts.backups:
        if each.manifest is None:
            remedy = "run ops backup prune on the operator's machine, or ops backup rewind after an attack"
            yield Probe(f"backup {each.identity}", False, f"broken: {each.broken}", remedy)


def _last(passed: Iterable[Drill | Verification]) -> str:
    last = max((each.began for each in passed), default=None)
    return f"passed on {last:%Y-%m-%d %H:%M} UTC" if last else "not yet, and not due yet"


_HEAD = ("backup", "moment (UTC)", "added", "gitea", "verified", "drilled", "")


def _row(each: Backup) -> tuple[str, ...]:
    if each.manifest is None:
        return (each.identity, "", "", "", "", "", f"BROKEN: {each.broken}")
    made = each.manifest
    size, version = in_bytes(made.stored), made.versions.get("gitea", "")
    return (
        each.identity,
        f"{made.moment:%Y-%m-%d %H:%M:%S}",
        size,
        version,
        _day(each.verified),
        _day(each.drilled),
        "",
    )


def _lines(rows: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    if not rows:
        return ()
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (_HEAD, *rows)
    )


def _document(each: Backup) -> dict[str, Any]:
    made = each.manifest
    if made is None:
        return {"identity": each.identity, "whole": False, "broken": each.broken}
    return {
        "identity": each.identity,
        "whole": True,
        "moment": made.moment.isoformat(),
        "stored": made.stored,
        "size": sum(part.size for part in made.parts.values()),
        "versions": dict(made.versions),
        "repositories": len(made.repositories),
        "paused": made.paused,
        "verified": each.verified.isoformat() if each.verified else None,
        "drilled": each.drilled.isoformat() if each.drilled else None,
    }


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"
