"""A bucket with four backups, of which a prune removes two, and a process that can be killed before each change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.backup import manifest, prune
from ops.backup.manifest import Backup, Manifest
from ops.backup.prune import PrunePlan
from ops.world.restic import Snapshot
from tests.support import fakes

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SITE = fakes.site(
    backup={"bucket": "example-org-gitea-backup", "keep_last": 2, "keep_daily": 1, "keep_weekly": 0, "keep_monthly": 0}
)
MADE = [fakes.made(NOW - timedelta(hours=hours)) for hours in (1, 2, 3, 4)]


def snapshots_of(made: Manifest) -> list[Snapshot]:
    return [Snapshot(part.remote, part.local, (made.identity, name)) for name, part in made.parts.items()]


def planned(
    backups: Collection[Manifest], snapshots: Sequence[Snapshot], hidden: Collection[str] = (), now: datetime = NOW
) -> PrunePlan:
    return prune.plan_prune(SITE, [Backup(each.identity, each) for each in backups], snapshots, hidden, now)


class Killed(BaseException):
    """The process was killed."""


@dataclass
class Bucket:
    """A bucket with its repository. The process can be killed before each change."""

    manifests: dict[str, Manifest] = field(default_factory=lambda: {each.identity: each for each in MADE})
    hidden: set[str] = field(default_factory=set)
    snapshots: list[Snapshot] = field(default_factory=lambda: [one for each in MADE for one in snapshots_of(each)])
    packs: set[str] = field(default_factory=lambda: {part.remote for each in MADE for part in each.parts.values()})
    dies_before: int = -1
    changes: int = 0

    def change(self) -> None:
        if self.changes == self.dies_before:
            raise Killed
        self.changes += 1

    def hide_object(self, bucket: str, key: str) -> None:
        self.change()
        identity = key.removeprefix(manifest.PREFIX).removesuffix(".json")
        del self.manifests[identity]
        self.hidden.add(identity)

    def hide_objects(self, bucket: str, keys: Sequence[str]) -> None:
        for key in keys:
            self.hide_object(bucket, key)

    def forget(self, snapshots: Sequence[str]) -> None:
        for identity in snapshots:
            self.change()
            self.snapshots = [each for each in self.snapshots if each.identity != identity]

    def prune(self) -> None:
        for pack in sorted(self.packs - {each.identity for each in self.snapshots}):
            self.change()
            self.packs.remove(pack)

    def run(self) -> None:
        bucket: Any = self
        world: Any = fakes.FakeWorld(aws=bucket)
        plan = planned(list(self.manifests.values()), self.snapshots, self.hidden)
        prune.remove(SITE, world, bucket, plan)

    def state(self) -> tuple[list[str], list[str], list[str]]:
        return sorted(self.manifests), sorted(each.identity for each in self.snapshots), sorted(self.packs)


WHOLE = Bucket()
WHOLE.run()
