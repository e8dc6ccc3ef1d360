"""Decisions before and after a backup is stored: whether the site has data, and which backups are uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.backup import contents, manifest, upload
from ops.backup import take as backup_take
from ops.errors import OpsError, Refused, Unavailable
from ops.step_timer import StepTimer
from tests.support import fakes
from tests.support.fake_host import FakeHost

REFS = "= a/b.git\nref: refs/heads/main\n0001 refs/heads/main\n"


@pytest.fixture
def machine(tmp_path: Path) -> FakeHost:
    return FakeHost(directory=tmp_path)


def take(machine: FakeHost) -> manifest.Manifest:
    machine.clock.sleep(60)
    world: Any = machine
    return backup_take.of_this_moment(machine.site(), world, machine.paths)


def waiting(machine: FakeHost) -> list[str]:
    return sorted(each.stem for each in machine.paths.pending.glob("*.json"))


def uploaded(machine: FakeHost, made: manifest.Manifest) -> tuple[manifest.Manifest, tuple[str, ...]]:
    world: Any = machine
    return upload.upload_backup(machine.site(), world, machine.paths, StepTimer(world), made)


def test_a_new_data_disk_is_not_backed_up_while_the_site_has_backups(machine: FakeHost) -> None:
    take(machine)
    machine.paths.disk_seen.unlink()
    kept = dict(machine.bucket)
    with pytest.raises(Refused, match="this data disk is new"):
        take(machine)
    assert machine.bucket == kept
    assert not machine.paths.disk_seen.exists()


@pytest.mark.parametrize("kind", [OpsError, Unavailable])
def test_a_bucket_without_permission_to_list_counts_as_unreachable(kind: type[OpsError]) -> None:
    def refuse(bucket: str, prefix: str) -> list[str]:
        raise kind("AWS says AccessDenied")

    world: Any = fakes.FakeWorld()
    world.aws.objects = refuse
    existing = backup_take._in_bucket(fakes.site(), world)
    assert existing.identities == frozenset()
    with pytest.raises(kind, match="AccessDenied"):
        existing.require()
    assert "kept on this host" in world.progress[-1]


def test_a_backup_that_cannot_be_uploaded_is_reported_and_does_not_stop_the_others(machine: FakeHost) -> None:
    machine.bucket_unreachable = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            take(machine)
    damaged, sound = waiting(machine)
    (machine.paths.pending / f"{damaged}.json").write_bytes(b"{")
    machine.bucket_unreachable = False
    made = take(machine)
    assert waiting(machine) == [damaged]
    assert {manifest.key_of(each) for each in (sound, made.identity)} <= set(machine.bucket)
    (machine.paths.pending / f"{made.identity}.json").write_bytes(manifest.to_json(made))
    _, (line,) = uploaded(machine, made)
    assert f"backup {damaged} cannot be uploaded to the bucket" in line
    assert f"{damaged}.json if this backup is not needed" in line


@pytest.mark.parametrize(
    ("present", "opened"),
    [
        ({"restic/config"}, 1),
        ({"restic/config", "restic/locks/0af3"}, 2),
        ({"restic/locks/0af3"}, 2),
        (set[str](), 2),
    ],
    ids=["unlocked", "locked", "a lock without a repository", "empty"],
)
def test_the_bucket_s_repository_is_opened_for_unlocking_only_if_it_has_a_lock(
    machine: FakeHost, present: set[str], opened: int
) -> None:
    machine.bucket |= dict.fromkeys(present, b"")
    take(machine)
    # The host's own repository is always opened.
    assert machine.lock_removals == opened


def test_a_new_backup_that_cannot_be_uploaded_fails(machine: FakeHost) -> None:
    made = take(machine)
    (machine.paths.pending / f"{made.identity}.json").write_bytes(b"{")
    with pytest.raises(OpsError, match="manifest is truncated"):
        uploaded(machine, made)


def test_a_repository_that_git_cannot_read_is_backed_up_and_reported() -> None:
    digests = contents.refs_from(f"{REFS}= a/half.git\n{contents.UNREADABLE}\n")
    assert digests == {**contents.refs_from(REFS), "a/half.git": contents.UNREADABLE}
    made = fakes.made(manifest.moment_of("20261123T110000Z"), repositories=digests)
    (line,) = backup_take._unreadable(made)
    assert line.startswith("git cannot read repository a/half.git, the backup has it as it is")
