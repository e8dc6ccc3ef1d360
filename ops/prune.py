"""Removing what the policy does not keep: from the bucket by the operator alone, on the host by the host itself.

In the bucket a backup ends in this order: its manifest, its snapshots, their bytes. Cut off anywhere, no manifest tells of what is
not there, and the next run goes on: snapshots whose manifest was taken away are named by that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ops import afar, catalogue, image, manifest, proofs, restore, retention
from ops.config import Site
from ops.deploy import Agree, Workshop
from ops.manifest import Backup
from ops.model import Report
from ops.retention import Fate
from ops.tidy import backup_of
from ops.world import World
from ops.world.restic import Restic, Snapshot

# No backup is taken for longer: snapshots that are older and have no manifest never become one.
UNFINISHED = timedelta(days=1)


@dataclass(frozen=True)
class Plan:
    """What is kept and what goes, and the snapshots of backups that have no manifest (any more)."""

    fates: tuple[Fate, ...]
    snapshots: tuple[str, ...]
    orphans: tuple[str, ...]

    @property
    def removed(self) -> tuple[str, ...]:
        """The names of the backups that go."""
        return tuple(each.identity for each in self.fates if not each.kept)

    @property
    def lines(self) -> tuple[str, ...]:
        """The plan as a person has to read it before agreeing."""
        left = [f"and {len(self.orphans)} snapshots of backups that were never finished or never wholly removed"]
        return (*retention.table(self.fates), *(left if self.orphans else []))


def prune(site: Site, world: World, *, workshop: Workshop, agree: Agree, rehearse: bool = False) -> Report:
    """Remove from the bucket what the site file's policy does not keep.

    ``agree`` is given the site's name and the table of all backups, and raises Refused when that is not wanted. With
    ``rehearse`` the table is all. Raises Locked while someone else is at work on the repository. Versions of what is removed stay
    until lock and lifecycle end them: ``ops backup rewind`` brings it back until then.
    """
    made = image.ensure(workshop.repository, workshop.cache, world)
    with afar.opened(site, world, workshop=workshop, image=made.reference) as remote:
        backups = proofs.with_proofs(
            restore.known_in(site, world, remote), catalogue.verifications(site, world), catalogue.drills(site, world)
        )
        chosen = plan(site, backups, remote.snapshots(), afar.hidden(site, world), world.clock.now())
        facts = {
            "removed": chosen.removed,
            "kept": len(chosen.fates) - len(chosen.removed),
            "orphans": len(chosen.orphans),
        }
        if rehearse:
            return Report("backup", False, f"would remove {len(chosen.removed)} backups", facts, chosen.lines)
        lossy = bool(chosen.removed or chosen.orphans)
        if lossy:
            agree(site.name, chosen.lines)
        remove(site, world, remote, chosen)
    summary = f"{len(chosen.removed)} backups removed, {facts['kept']} kept"
    return Report("backup", lossy, summary, facts, chosen.lines if lossy else ())


def plan(
    site: Site, backups: Iterable[Backup], snapshots: Iterable[Snapshot], hidden: Collection[str], now: datetime
) -> Plan:
    """Return what is to be removed from the bucket.

    ``hidden`` has the names of backups whose manifest was taken away. A snapshot without a manifest goes when its manifest was
    taken away, or when it is too old to belong to a backup that is being taken.
    """
    fates = retention.plan_retention(retention.candidates_from(backups), site.backup)
    gone, present = {each.identity for each in fates if not each.kept}, {each.identity for each in fates}
    doomed, orphans = [], []
    for each in snapshots:
        identity = backup_of(each)
        if identity in gone:
            doomed.append(each.identity)
        elif identity and identity not in present and _is_over(identity, hidden, now):
            orphans.append(each.identity)
    return Plan(fates, tuple(doomed), tuple(orphans))


def remove(site: Site, world: World, remote: Restic, chosen: Plan) -> None:
    """Do what a plan says, in the order that may be cut off anywhere."""
    for identity in chosen.removed:
        world.aws.hide_object(site.backup.bucket, manifest.key_of(identity))
    doomed = [*chosen.snapshots, *chosen.orphans]
    if doomed:
        remote.forget(doomed)
    # Always: one that was cut off here has left bytes that nothing tells of.
    remote.prune()


def _is_over(identity: str, hidden: Collection[str], now: datetime) -> bool:
    return identity in hidden or now - manifest.moment_of(identity) > UNFINISHED
