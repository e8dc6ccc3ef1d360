"""Backups, their records and the WAL of a site that the code of before the new layout made."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from ops.backup import catalogue, contents, manifest, prune, prune_local, records, status
from ops.wal import base_backups, plan, segments
from tests.support import fakes
from tests.support.fake_host import FakeHost
from tests.support.kept_states import (
    KEPT,
    NOW,
    SITE,
    document,
    kept_backups,
    kept_world,
    newest,
    snapshots,
    text,
)


def test_every_old_manifest_is_whole_and_would_be_written_the_same() -> None:
    found = kept_backups()
    assert [each.broken for each in found] == [""] * len(found)
    for each in found:
        assert each.manifest
        written = json.loads(manifest.to_json(each.manifest))
        assert written == document(f"bucket/manifests/{each.identity}.json")
        assert manifest.identity_of(each.manifest.moment) == each.identity
        assert set(each.manifest.parts) == {"database", "data", "configuration"}
        assert each.manifest.position
        assert each.manifest.photographed
    assert (newest().site, newest().domain, newest().versions["gitea"]) == ("local", "git.gitea.test", "28.1.0")
    assert catalogue.identities(SITE, kept_world()) == tuple(each.identity for each in found)
    assert catalogue.newest(SITE, kept_world()) == newest()


def test_a_manifest_that_waits_on_the_host_names_no_snapshot_in_the_bucket() -> None:
    (file,) = (KEPT / "host/pending").glob("*.json")
    waiting = manifest.from_json(file.read_bytes())
    assert waiting.identity == file.stem
    assert {part.remote for part in waiting.parts.values()} == {""}
    assert {part.local for part in waiting.parts.values()} <= {each.identity for each in snapshots("host")}
    # The next run uploaded it.
    assert f"manifests/{file.stem}.json" in text("bucket-keys.txt").split()


def test_the_next_backup_uploads_one_that_waits_on_the_host(tmp_path: Path) -> None:
    machine = FakeHost(directory=tmp_path, clock=fakes.FakeClock(NOW))
    (file,) = (KEPT / "host/pending").glob("*.json")
    waiting = manifest.from_json(file.read_bytes())
    machine.paths.pending.mkdir(parents=True)
    shutil.copy(file, machine.paths.pending)
    machine.snapshots |= {part.local: "" for part in waiting.parts.values()}
    machine.update(to="28.1.0")
    brought = manifest.from_json(machine.bucket[manifest.key_of(waiting.identity)])
    assert [part.remote for part in brought.parts.values()] == [part.local for part in waiting.parts.values()]
    assert list(machine.paths.pending.iterdir()) == []


def test_the_newest_backup_on_the_host_is_that_of_the_bucket_and_digests_its_refs_alike() -> None:
    here = manifest.from_json((KEPT / "host/newest.json").read_bytes())
    assert here.identity == newest().identity
    assert {name: part.local for name, part in here.parts.items()} == {
        name: part.local for name, part in newest().parts.items()
    }
    assert contents.refs_from(text("host/refs.txt")) == newest().repositories


def test_records_of_drills_and_verifications_are_read_and_would_be_written_the_same() -> None:
    (drill,), (verification,) = catalogue.drills(SITE, kept_world()), catalogue.verifications(SITE, kept_world())
    assert (drill.passed, verification.passed, verification.share) == (True, True, 1)
    assert drill.rto_seconds > 0
    for made, prefix in ((drill, records.DRILLS), (verification, records.VERIFICATIONS)):
        key = records.key_of(prefix, made.began)
        assert json.loads(records.to_json(made)) == document(f"bucket/{key}")
    assert catalogue.drill_overdue(SITE, kept_world()) == ""
    proven = {each.identity: each for each in records.with_records(kept_backups(), [verification], [drill])}
    assert proven[drill.identity].drilled == drill.began
    assert proven[verification.identity].verified == verification.began


def test_the_status_of_the_kept_backups_is_the_same() -> None:
    before = document("host/backup-status.json")
    at = datetime.fromisoformat(max(each["moment"] for each in document("host/backup-list.json")["backups"]))
    then = tuple(each for each in kept_backups() if each.manifest and each.manifest.moment <= at)
    world = kept_world()
    facts = status.BackupInventory(
        records.with_records(then, catalogue.verifications(SITE, world), catalogue.drills(SITE, world)),
        {each.identity for each in snapshots("host")},
        True,
        catalogue.verifications(SITE, world),
        catalogue.drills(SITE, world),
    )
    judged = [(each.name, each.healthy) for each in status.check(SITE, facts, at + timedelta(minutes=1))]
    # Since then, the status also tells whether the operator prunes, and compares the repositories.
    for later in (("pruned", True), ("repositories", True)):
        assert later in judged
        judged.remove(later)
    assert judged == [(each["name"], each["healthy"]) for each in before["findings"]]
    assert [each.identity for each in then] == [
        each["identity"] for each in document("host/backup-list.json")["backups"]
    ]


def before_the_first_base() -> tuple[str, ...]:
    """Return the keys of the segments, of 16 MiB each, that no base needs."""
    first: dict[str, int] = {}
    for name in sorted(each.name for each in (KEPT / "bucket/bases").glob("*.json")):
        base = document(f"bucket/bases/{name}")
        first.setdefault(base["system"], base["start"] // 2**24)
    found = []
    for key in text("bucket-keys.txt").split():
        part = re.fullmatch(r"wal/(\d+)/[0-9A-F]{8}/[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})", key)
        if part and int(part[2], 16) * 256 + int(part[3], 16) < first.get(part[1], 0):
            found.append(key)
    return tuple(found)


def test_base_backups_and_wal_keys_lead_to_the_database_of_the_newest_backup() -> None:
    known = [segments.base_from_json(each.read_bytes()) for each in sorted((KEPT / "bucket/bases").glob("*.json"))]
    assert [json.loads(segments.base_to_json(each)) for each in known] == [
        document(f"bucket/bases/{each.identity}.json") for each in known
    ]
    assert base_backups.list_base_backups(SITE, kept_world()) == tuple(known)
    # A tag marks their snapshots in both repositories.
    tagged = {
        of: {each.identity for each in snapshots(of) if base_backups.TAG in each.tags} for of in ("bucket", "host")
    }
    assert tagged["bucket"] == {each.remote for each in known}
    assert tagged["host"] <= {each.local for each in known}
    assert known[-1].local in tagged["host"]
    made, keys = newest(), text("bucket-keys.txt").split()
    prefix = f"wal/{made.system}/"
    names = [segments.name_from(key) for key in keys if key.startswith(prefix)]
    assert [segments.key_of(made.system, name) for name in names] == [key for key in keys if key.startswith(prefix)]
    planned = plan.plan_replay(known, names, made.system, segments.position_from(made.position))
    assert planned.base.system == made.system
    assert planned.base.end <= segments.position_from(made.position)
    assert set(planned.names) <= set(names)
    # All of it is younger than two weeks: only the WAL before the first base of a database goes.
    assert plan.plan_wal_retention(known, keys, NOW) == plan.WalToDelete((), before_the_first_base())
    # In a month only the newest base and its WAL stay.
    later = plan.plan_wal_retention(known, keys, NOW + timedelta(days=31))
    last = max(known, key=lambda each: each.moment)
    assert last not in later.bases
    assert {each.system for each in later.bases} <= {each.system for each in known}
    assert not any(
        key.startswith(f"wal/{last.system}/") and segments.name_from(key) >= planned.names[0] for key in later.keys
    )


def test_the_state_of_the_wal_stream_is_read() -> None:
    state = segments.state_from_json(text("host/wal-state.json"))
    assert state
    assert (state.trouble, json.loads(segments.state_to_json(state))) == ("", document("host/wal-state.json"))
    assert segments.check_stream(state, state.covered + timedelta(minutes=1)).healthy
    assert f"wal/{state.system}/{state.shipped[:8]}/{state.shipped}" in text("bucket-keys.txt").split()


def test_the_bucket_holds_known_kinds_of_keys_alone() -> None:
    known = (
        "manifests/",
        "drills/",
        "verifications/",
        "bases/",
        "wal/",
        "updates/history/",
        "updates/pins.json",
        "restic/",
    )
    keys = text("bucket-keys.txt").split()
    assert [key for key in keys if not key.startswith(known)] == []
    assert {key.partition("/")[0] for key in keys} == {each.partition("/")[0] for each in known}


def test_a_prune_of_the_kept_bucket_removes_the_backups_that_the_policy_does_not_keep() -> None:
    policy = replace(SITE, backup=replace(SITE.backup, keep_last=2, keep_daily=0, keep_weekly=0, keep_monthly=0))
    world = kept_world()
    backups = records.with_records(kept_backups(), catalogue.verifications(SITE, world), catalogue.drills(SITE, world))
    hidden = set(text("bucket-delete-markers.txt").split())
    known = [segments.base_from_json(each.read_bytes()) for each in sorted((KEPT / "bucket/bases").glob("*.json"))]
    planned = prune.with_wal(
        prune.plan_prune(policy, backups, snapshots("bucket"), hidden, NOW),
        known,
        text("bucket-keys.txt").split(),
        snapshots("bucket"),
        NOW,
    )
    verified = max(each.identity for each in backups if each.verified)
    kept = {verified, *[each.identity for each in backups][-2:]}
    assert set(planned.removed) == {each.identity for each in backups} - kept
    assert (planned.orphans, planned.wal, planned.bases) == ((), plan.WalToDelete((), before_the_first_base()), ())
    # Snapshots that a kept backup shares with a removed one stay.
    needed = {
        part.remote
        for each in backups
        if each.identity in kept and each.manifest
        for part in each.manifest.parts.values()
    }
    assert not needed & set(planned.snapshots)
    assert prune.plan_prune(SITE, backups, snapshots("bucket"), hidden, NOW).snapshots == ()
    remote = Pruned()
    prune.remove(policy, world, remote, planned)  # type: ignore[arg-type] # a repository in memory
    assert catalogue.identities(policy, world) == tuple(sorted(kept))
    assert set(remote.forgotten) == set(planned.snapshots)
    left = set(text("bucket-keys.txt").split()) - {
        *before_the_first_base(),
        *(f"manifests/{each}.json" for each in planned.removed),
    }
    assert set(world.aws.stored) == left


class Pruned:
    """A repository that records the snapshots to forget."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def forget(self, snapshots: Sequence[str]) -> None:
        self.forgotten += snapshots

    def prune(self) -> None:
        assert self.forgotten


def test_the_local_prune_knows_snapshots_by_their_tags() -> None:
    known = snapshots("host")
    named = {each for each in map(prune_local.backup_of, known) if each}
    assert {each.identity for each in kept_backups()} <= named
    assert prune_local.plan_prune_local(known, SITE.backup, set()) == tuple(
        each.identity for each in [one for one in known if "base" in one.tags][:-2]
    )
    assert any(prune_local.reused_data(each) for each in known)
