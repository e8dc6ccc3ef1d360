"""How the list of backups is read from the bucket."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.backup import catalogue, manifest
from ops.world.aws import Aws
from ops.world.aws_clients import CONNECTIONS
from ops.world.restic import Snapshot
from tests.support import fakes

MADE = [fakes.made(datetime(2026, 11, 23, tzinfo=UTC) + timedelta(minutes=15 * number)) for number in range(64)]


class SlowBucket(Aws):
    """A bucket whose answers come only when eight requests are under way at the same time."""

    def __init__(self) -> None:
        super().__init__("eu-central-1")
        vars(self)["_client"] = lambda service: None
        self.stored = {manifest.key_of(each.identity): manifest.to_json(each) for each in MADE}
        self.barrier, self.count, self.peak, self.lock = threading.Barrier(8), 0, 0, threading.Lock()

    def objects(self, bucket: str, prefix: str, *, after: str = "") -> tuple[str, ...]:
        return tuple(sorted(self.stored))

    def read_object(self, bucket: str, key: str) -> bytes:
        with self.lock:
            self.count += 1
            self.peak = max(self.peak, self.count)
        self.barrier.wait(timeout=5)
        with self.lock:
            self.count -= 1
        return self.stored[key]


class Repository:
    """A repository with the snapshots of all backups."""

    def snapshots_or_none(self) -> list[Any]:
        return [Snapshot(part.remote, part.local) for each in MADE for part in each.parts.values()]


def test_manifests_are_read_side_by_side_and_by_a_bounded_number_of_threads() -> None:
    bucket = SlowBucket()
    world: Any = fakes.FakeWorld(aws=bucket)  # type: ignore[arg-type]
    remote: Any = Repository()
    found = catalogue.list_backups_in(fakes.site(), world, remote)
    assert [each.identity for each in found] == [each.identity for each in MADE]
    assert all(each.manifest for each in found)
    assert 8 <= bucket.peak <= CONNECTIONS
