"""Removing what the policy does not keep: from the bucket by the operator alone, on the host by the host itself.

In the bucket a backup ends in this order: its manifest, its snapshots, their bytes. Cut off anywhere, no manifest tells of what is
not there, and the next run goes on: snapshots whose manifest was taken away are named by that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ops.backup import catalogue, manifest, operator_access, prune_local, records, retention
from ops.backup.manifest import Backup
from ops.backup.prune_local import backup_of
from ops.backup.retention import Decision
from ops.config.schema import Site
from ops.config.workspace import Workspace
from ops.images import ops_image
from ops.model import Confirm, Report
from ops.wal import base_backups, segments
from ops.wal import plan as wal_plan
from ops.wal.plan import WalToDelete
from ops.wal.segments import BaseBackup
from ops.world import World
from ops.world.restic import Restic, Snapshot

# No backup is taken for longer. Older snapshots without a manifest never become one either, once a younger backup has one: those
# that wait on the host while the bucket is away are brought oldest first.
UNFINISHED = timedelta(days=1)


@dataclass(frozen=True)
class PrunePlan:
    """What is kept and what goes, and the snapshots of backups that have no manifest (any more).

    ``log`` is what goes of the database's log, ``bases`` the snapshots of bases that no record tells of then.
    """

    decisions: tuple[Decision, ...]
    snapshots: tuple[str, ...]
    orphans: tuple[str, ...]
    log: WalToDelete = field(default_factory=lambda: WalToDelete((), ()))
    bases: tuple[str, ...] = ()

    @property
    def removed(self) -> tuple[str, ...]:
        """The names of the backups that go."""
        return tuple(each.identity for each in self.decisions if not each.kept)

    @property
    def lines(self) -> tuple[str, ...]:
        """The plan as a person has to read it before agreeing."""
        left = [f"and {len(self.orphans)} snapshots of backups that were never finished or never wholly removed"]
        log = [
            f"and {len(self.log.bases)} bases of the database with {len(self.log.keys)} files of its log, "
            f"which no restore to a moment of the last {segments.KEPT_DAYS} days needs"
        ]
        return (
            *retention.table(self.decisions),
            *(left if self.orphans else []),
            *(log if self.log.bases or self.log.keys else []),
        )

    @property
    def deletes_anything(self) -> bool:
        """Whether anything goes."""
        return bool(self.removed or self.orphans or self.log.bases or self.log.keys or self.bases)


def prune(site: Site, world: World, *, workspace: Workspace, confirm: Confirm, dry_run: bool = False) -> Report:
    """Remove from the bucket what the site file's policy does not keep.

    ``confirm`` is given the site's name and the table of all backups, and raises Refused when that is not wanted. With
    ``dry_run`` the table is all. Raises Locked while someone else is at work on the repository. Versions of what is removed stay
    until lock and lifecycle end them: ``ops backup rewind`` brings it back until then.
    """
    made = ops_image.ensure(workspace.repository, workspace.cache, world)
    with operator_access.open_repository(site, world, workspace=workspace, image=made.reference) as remote:
        backups = records.with_records(
            catalogue.list_backups_in(site, world, remote),
            catalogue.verifications(site, world, until_passed=True),
            catalogue.drills(site, world),
        )
        snapshots, now = remote.snapshots(), world.clock.now()
        chosen = with_wal(
            plan_prune(site, backups, snapshots, operator_access.hidden(site, world), now),
            base_backups.list_base_backups(site, world),
            world.aws.objects(site.backup.bucket, segments.PREFIX),
            snapshots,
            now,
        )
        facts = {
            "removed": chosen.removed,
            "kept": len(chosen.decisions) - len(chosen.removed),
            "orphans": len(chosen.orphans),
        }
        if dry_run:
            return Report("backup", False, f"would remove {len(chosen.removed)} backups", facts, chosen.lines)
        if chosen.deletes_anything:
            confirm(site.name, chosen.lines)
        remove(site, world, remote, chosen)
    summary = f"{len(chosen.removed)} backups removed, {facts['kept']} kept"
    return Report("backup", chosen.deletes_anything, summary, facts, chosen.lines if chosen.deletes_anything else ())


def plan_prune(
    site: Site, backups: Iterable[Backup], snapshots: Collection[Snapshot], hidden: Collection[str], now: datetime
) -> PrunePlan:
    """Return what is to be removed from the bucket.

    ``hidden`` has the names of backups whose manifest was taken away. A snapshot without a manifest goes when its manifest was
    taken away, or when it is too old to belong to a backup that is being taken or brought. What a backup that stays has
    borrowed stays, too.
    """
    decisions = retention.plan_retention(retention.candidates_from(backups), site.backup)
    gone, present = {each.identity for each in decisions if not each.kept}, {each.identity for each in decisions}
    newest = max(present, default="")
    over = gone | {
        each
        for each in map(backup_of, snapshots)
        if each and each not in present and _is_over(each, hidden, newest, now)
    }
    spared = prune_local.shared_data(snapshots, over)
    doomed, orphans = [], []
    for each in snapshots:
        identity = backup_of(each)
        if each.original in spared:
            continue
        if identity in gone:
            doomed.append(each.identity)
        elif identity in over:
            orphans.append(each.identity)
    return PrunePlan(decisions, tuple(doomed), tuple(orphans))


def with_wal(
    chosen: PrunePlan, known: Iterable[BaseBackup], keys: Iterable[str], snapshots: Iterable[Snapshot], now: datetime
) -> PrunePlan:
    """Return the plan with what goes of the database's log.

    A base's snapshot goes when no record tells of it: its own was taken away, or never written. The newest may be of a base
    that is being taken.
    """
    there = tuple(known)
    log = wal_plan.plan_wal_retention(there, keys, now)
    told = {each.remote for each in there if each not in log.bases}
    tagged = [each.identity for each in snapshots if base_backups.TAG in each.tags]
    return replace(chosen, log=log, bases=tuple(each for each in tagged[:-1] if each not in told))


def remove(site: Site, world: World, remote: Restic, chosen: PrunePlan) -> None:
    """Do what a plan says, in the order that may be cut off anywhere."""
    for identity in chosen.removed:
        world.aws.hide_object(site.backup.bucket, manifest.key_of(identity))
    for base in chosen.log.bases:
        world.aws.hide_object(site.backup.bucket, f"{segments.BASES}{base.identity}.json")
    for key in chosen.log.keys:
        world.aws.hide_object(site.backup.bucket, key)
    doomed = [*chosen.snapshots, *chosen.orphans, *chosen.bases]
    if doomed:
        remote.forget(doomed)
    # Always: one that was cut off here has left bytes that nothing tells of.
    remote.prune()


def _is_over(identity: str, hidden: Collection[str], newest: str, now: datetime) -> bool:
    return identity in hidden or (identity < newest and now - manifest.moment_of(identity) > UNFINISHED)
