"""Which backups there are, and whether the site stands as well with them as its file asks: 3-2-1, judged and not asserted."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ops import report
from ops.backup import catalogue, manifest, records, repositories
from ops.backup.manifest import Backup, Manifest
from ops.backup.records import Drill, Verification
from ops.config.paths import HostPaths
from ops.config.schema import Site
from ops.model import CLOCK_DRIFT, Probe, Report, in_bytes
from ops.world import World

_REPLICATED = timedelta(hours=1)


@dataclass(frozen=True)
class BackupInventory:
    """What there is: backups oldest first, snapshots on this host, and the records of what was proven of them.

    ``two_disks`` is whether Gitea's data and the repository on this host are on two file systems. ``replicated`` is what S3
    says of its copy of a backup in the second region, with the backup's name; None when there is none to ask of.
    """

    backups: tuple[Backup, ...]
    local: Collection[str]
    two_disks: bool
    verifications: tuple[Verification, ...]
    drills: tuple[Drill, ...]
    replicated: tuple[str, str] | None = None

    @property
    def whole(self) -> tuple[Manifest, ...]:
        """The backups that are whole, oldest first."""
        return tuple(sorted((each.manifest for each in self.backups if each.manifest), key=lambda each: each.moment))


def backups(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """List the backups that the bucket tells of, the newest last. One whose parts are missing is broken, and no backup."""
    both = repositories.repositories(site, world, paths or HostPaths())
    found = records.with_proofs(
        catalogue.list_backups(site, world, both), catalogue.verifications(site, world), catalogue.drills(site, world)
    )
    broken = sum(each.manifest is None for each in found)
    summary = f"{len(found) - broken} backups" + (f", and {broken} broken: no one can restore those" if broken else "")
    rows = tuple(_row(each) for each in found)
    return Report("backup", False, summary, {"backups": [_document(each) for each in found]}, _lines(rows))


def status(site: Site, world: World, *, paths: HostPaths | None = None) -> Report:
    """Judge the site's backups against its file. Exit code 3 when something is red, each with its remedy."""
    paths = paths or HostPaths()
    both = repositories.repositories(site, world, paths)
    verifications, drills = catalogue.verifications(site, world), catalogue.drills(site, world)
    local = {each.identity for each in both.local.snapshots_or_none() or ()}
    facts = BackupInventory(
        records.with_proofs(catalogue.list_backups(site, world, both), verifications, drills),
        local,
        paths.data.stat().st_dev != paths.local.parent.stat().st_dev,
        verifications,
        drills,
    )
    if site.backup.replica_region and (old := settled(facts.whole, world.clock.now())):
        said = world.aws.replication(site.backup.bucket, manifest.key_of(old.identity))
        facts = replace(facts, replicated=(old.identity, said))
    judged = check(site, facts, world.clock.now())
    red = [each for each in judged if not each.healthy]
    summary = (
        f"{len(red)} of {len(judged)} findings are red" if red else "3 copies, 2 media, 1 of them elsewhere: proven"
    )
    told = {"findings": [vars(each) for each in judged], "backups": len(facts.whole)}
    return Report("backup", False, summary, told, tuple(report.line(each) for each in judged), 3 if red else 0)


def check(site: Site, facts: BackupInventory, now: datetime) -> tuple[Probe, ...]:
    """Return what there is to say of the backups, each well or red with its remedy."""
    whole = facts.whole
    if not whole:
        return (Probe("copies", False, "there is no whole backup", "ops backup take"), *_broken(facts))
    newest, since = whole[-1], whole[0].moment
    late = records.check_verifications(facts.verifications, since, now)
    undrilled = records.check_drills(facts.drills, site.backup.drill_days, since, now)
    return (
        _copies(newest, facts),
        _media(facts),
        _place(site, facts),
        check_age(newest.moment, site.backup.rpo_minutes, now),
        Probe("verified", not late, late or _last(facts.verifications), "ops backup verify"),
        Probe("drilled", not undrilled, undrilled or _last(facts.drills), "ops restore --drill"),
        *_measured(site, facts.drills),
        *_broken(facts),
    )


def check_age(newest: datetime, rpo_minutes: int, now: datetime) -> Probe:
    """Return whether the newest backup is young enough, and not from the future: then a clock is wrong, or was."""
    if newest - now > CLOCK_DRIFT:
        seen = f"the newest backup is of {newest:%Y-%m-%d %H:%M} UTC, which is yet to come"
        return Probe("age", False, seen, "look at this host's clock: timedatectl")
    minutes = max(0, int((now - newest).total_seconds() // 60))
    seen = f"the newest backup is {minutes} min old, of {rpo_minutes} allowed"
    return Probe("age", now - newest <= timedelta(minutes=rpo_minutes), seen, "ops backup take")


def _copies(newest: Manifest, facts: BackupInventory) -> Probe:
    missing = [name for name, part in newest.parts.items() if part.local not in facts.local]
    if missing:
        seen = f"2: the data, the bucket. {' and '.join(missing)} of {newest.identity} missing on this host"
        return Probe("copies", False, seen, "ops backup take")
    return Probe("copies", True, f"3: the data, this host's repository, the bucket; all with {newest.identity}")


def _media(facts: BackupInventory) -> Probe:
    if not facts.two_disks:
        seen = "the data and this host's repository are on one disk"
        return Probe("media", False, seen, "give the data a disk of its own (host.data_device), and deploy")
    return Probe("media", True, "2 disks of this host, and S3")


def settled(whole: Iterable[Manifest], now: datetime) -> Manifest | None:
    """Return the newest backup that S3 had an hour to copy to the second region; most objects take it a quarter of one."""
    return max(
        (each for each in whole if now - each.finished >= _REPLICATED), key=lambda each: each.moment, default=None
    )


def _place(site: Site, facts: BackupInventory) -> Probe:
    here, replica = f"S3 in {site.aws.region}", site.backup.replica_region
    if not replica:
        return Probe("elsewhere", True, here)
    if facts.replicated is None:
        return Probe(
            "elsewhere", True, f"{here}; the first hour of backups is not over yet for their copy in {replica}"
        )
    identity, status = facts.replicated
    if status == "COMPLETED":
        return Probe(
            "elsewhere", True, f"{here}, and by S3 itself copied to {replica}, as it says of backup {identity}"
        )
    words = f"has not copied backup {identity} to {replica}: {status}" if status else f"knows of no copy in {replica}"
    return Probe(
        "elsewhere", False, f"S3 {words}", "ops deploy; then the bucket's replication metrics in the S3 console"
    )


def _measured(site: Site, drills: Iterable[Drill]) -> Iterable[Probe]:
    passed = max((each for each in drills if each.passed), key=lambda each: each.began, default=None)
    if passed is None:
        return
    rto, rpo = passed.rto_seconds / 60, passed.rpo_seconds / 60
    yield Probe(
        "RTO",
        rto <= site.backup.rto_minutes,
        f"the last drill took {rto:.1f} min, of {site.backup.rto_minutes} allowed",
        "a faster host (host.instance_type), or a larger backup.rto_minutes",
    )
    yield Probe(
        "RPO",
        rpo <= site.backup.rpo_minutes,
        f"the last drill would have lost {rpo:.1f} min, of {site.backup.rpo_minutes} allowed",
        "systemctl list-timers gitea-suite-backup.timer; a smaller backup.every_minutes",
    )


def _broken(facts: BackupInventory) -> Iterable[Probe]:
    for each in facts.backups:
        if each.manifest is None:
            remedy = "ops backup prune, from the operator's machine; or ops backup rewind, if someone did this"
            yield Probe(f"backup {each.identity}", False, f"broken: {each.broken}", remedy)


def _last(proven: Iterable[Drill | Verification]) -> str:
    last = max((each.began for each in proven), default=None)
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
