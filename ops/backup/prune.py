"""Prune the bucket: remove what the policy does not keep. Only the operator can do it; the host prunes its own repository.

A backup is removed in this order: its manifest, its snapshots, their data. So after an interruption no manifest names missing
data, and the next run completes the work: hidden manifests name the snapshots that are left.
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

# No backup takes longer. Older snapshots without a manifest do not become a backup once a newer backup has a manifest: backups that
# wait on the host while the bucket is unreachable are uploaded oldest first.
UNFINISHED = timedelta(days=1)


@dataclass(frozen=True)
class PrunePlan:
    """The decision on each backup, and the ids of the snapshots to delete.

    ``snapshots`` are those of removed backups, ``orphans`` those of backups without a manifest. ``wal`` is the WAL to delete,
    ``bases`` are the snapshots of base backups without a record.
    """

    decisions: tuple[Decision, ...]
    snapshots: tuple[str, ...]
    orphans: tuple[str, ...]
    wal: WalToDelete = field(default_factory=lambda: WalToDelete((), ()))
    bases: tuple[str, ...] = ()

    @property
    def removed(self) -> tuple[str, ...]:
        """The names of the backups to remove."""
        return tuple(each.identity for each in self.decisions if not each.kept)

    @property
    def lines(self) -> tuple[str, ...]:
        """The plan as the lines that the operator confirms."""
        orphans = [f"and {len(self.orphans)} snapshots of backups that were not finished or not completely removed"]
        wal = [
            f"and {len(self.wal.bases)} base backups of the database with {len(self.wal.keys)} WAL files: "
            f"no restore to a moment of the last {segments.KEPT_DAYS} days needs them"
        ]
        return (
            *retention.table(self.decisions),
            *(orphans if self.orphans else []),
            *(wal if self.wal.bases or self.wal.keys else []),
        )

    @property
    def deletes_anything(self) -> bool:
        """Whether the plan deletes anything."""
        return bool(self.removed or self.orphans or self.wal.bases or self.wal.keys or self.bases)


def prune(site: Site, world: World, *, workspace: Workspace, confirm: Confirm, dry_run: bool = False) -> Report:
    """Remove from the bucket what the site file's policy does not keep.

    ``confirm`` gets the site's name and the table of all backups, and raises Refused when the operator declines. With
    ``dry_run`` nothing but the table is made. Raises Locked while another run uses the repository. The versions of removed
    objects stay until the bucket's lock and lifecycle end them: until then ``ops backup rewind`` restores them.
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
        record = records.prune_to_json(now, len(chosen.removed))
        world.aws.write_object(site.backup.bucket, records.key_of(records.PRUNES, now), record)
    summary = f"{len(chosen.removed)} backups removed, {facts['kept']} kept"
    return Report("backup", chosen.deletes_anything, summary, facts, chosen.lines if chosen.deletes_anything else ())


def plan_prune(
    site: Site, backups: Iterable[Backup], snapshots: Collection[Snapshot], hidden: Collection[str], now: datetime
) -> PrunePlan:
    """Return what to remove from the bucket.

    ``hidden`` has the names of backups whose manifest was hidden. A snapshot without a manifest is removed when its manifest
    was hidden, or when it is too old to belong to a backup that is being taken or uploaded. Data that a kept backup reuses
    is kept.
    """
    decisions = retention.plan_retention(retention.candidates_from(backups), site.backup)
    removed = {each.identity for each in decisions if not each.kept}
    orphaned = _orphaned(map(backup_of, snapshots), {each.identity for each in decisions}, hidden, now)
    shared = prune_local.shared_data(snapshots, removed | orphaned)
    unshared = [(each.identity, backup_of(each)) for each in snapshots if each.original not in shared]
    return PrunePlan(
        decisions,
        tuple(snapshot for snapshot, identity in unshared if identity in removed),
        tuple(snapshot for snapshot, identity in unshared if identity in orphaned),
    )


def with_wal(
    chosen: PrunePlan, records: Iterable[BaseBackup], keys: Iterable[str], snapshots: Iterable[Snapshot], now: datetime
) -> PrunePlan:
    """Return the plan with the WAL and base backups to delete added.

    A base backup's snapshot is deleted when it has no record: its record was hidden or never written. The newest snapshot is
    kept, because its base backup may be under way.
    """
    available = tuple(records)
    wal = wal_plan.plan_wal_retention(available, keys, now)
    recorded = {each.remote for each in available if each not in wal.bases}
    tagged = [each.identity for each in snapshots if base_backups.TAG in each.tags]
    return replace(chosen, wal=wal, bases=tuple(each for each in tagged[:-1] if each not in recorded))


def remove(site: Site, world: World, remote: Restic, chosen: PrunePlan) -> None:
    """Carry out a plan, in an order that is safe to interrupt anywhere; the next prune continues it."""
    manifests = [manifest.key_of(identity) for identity in chosen.removed]
    bases = [f"{segments.BASES}{base.identity}.json" for base in chosen.wal.bases]
    world.aws.hide_objects(site.backup.bucket, [*manifests, *bases, *chosen.wal.keys])
    to_delete = [*chosen.snapshots, *chosen.orphans, *chosen.bases]
    if to_delete:
        remote.forget(to_delete)
    # Always: a run that was interrupted here has left data that no snapshot names.
    remote.prune()


def _orphaned(
    identities: Iterable[str], present: Collection[str], hidden: Collection[str], now: datetime
) -> frozenset[str]:
    """Return the backups among ``identities`` that have no manifest and do not become whole any more."""
    newest = max(present, default="")
    return frozenset(
        each
        for each in identities
        if each and each not in present and (each in hidden or _is_abandoned(each, newest, now))
    )


def _is_abandoned(identity: str, newest: str, now: datetime) -> bool:
    return identity < newest and now - manifest.moment_of(identity) > UNFINISHED
