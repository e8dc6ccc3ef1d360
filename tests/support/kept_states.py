"""The states that the code of before the new layout wrote: tests/data/before-layout."""

from __future__ import annotations

import functools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from ops.backup import manifest
from ops.backup.manifest import Backup, Manifest
from ops.config import load
from ops.world.restic import Snapshot
from tests.support import fakes

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests/data/before-layout"
UPDATES = sorted(each.parent.name for each in KEPT.glob("update/*/journal"))
SITE = load.load(KEPT / "operator/site.toml")
# Five minutes after the newest backup.
NOW = manifest.moment_of(max(each.stem for each in KEPT.glob("bucket/manifests/*.json"))) + timedelta(minutes=5)


@functools.cache
def text(name: str) -> str:
    """Return the content of a kept file."""
    return (KEPT / name).read_text(encoding="utf-8")


def document(name: str) -> Any:
    """Return a kept JSON document."""
    return json.loads(text(name))


@functools.cache
def snapshots(of: str) -> tuple[Snapshot, ...]:
    """Return the snapshots of a repository, from the JSON of restic 0.18.0."""
    return tuple(
        Snapshot(each["id"], each.get("original", each["id"]), tuple(each.get("tags", ())), tuple(each["paths"]))
        for each in document(f"restic-snapshots-{of}.json")
    )


def kept_bucket() -> dict[str, bytes]:
    """Return every key of the bucket with its content, which is empty but for JSON documents."""
    keys = text("bucket-keys.txt").split()
    return {key: text(f"bucket/{key}").encode() if key.endswith(".json") else b"" for key in keys}


def kept_world() -> Any:
    """Return fakes with the kept bucket, five minutes after its newest backup."""
    return fakes.FakeWorld(aws=fakes.FakeAws(stored=kept_bucket()), clock=fakes.FakeClock(NOW))


@functools.cache
def kept_backups() -> tuple[Backup, ...]:
    """Return the kept backups, the oldest first."""
    there = {each.identity for each in snapshots("bucket")}
    files = sorted((KEPT / "bucket/manifests").glob("*.json"))
    return tuple(manifest.check_backup(each.stem, each.read_bytes(), there) for each in files)


@functools.cache
def newest() -> Manifest:
    """Return the manifest of the newest kept backup."""
    found = kept_backups()[-1].manifest
    assert found
    return found
