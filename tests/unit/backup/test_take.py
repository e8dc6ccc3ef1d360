"""What a backup decides before and after it is stored: whether there is a site to be stored, and what comes to the bucket."""

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


def brought(machine: FakeHost, made: manifest.Manifest) -> tuple[manifest.Manifest, tuple[str, ...]]:
    world: Any = machine
    return upload.upload_backup(machine.site(), world, machine.paths, StepTimer(world), made)


def test_no_verb_stores_a_disk_that_is_new_while_there_are_backups_of_the_site(machine: FakeHost) -> None:
    take(machine)
    machine.paths.disk_seen.unlink()
    kept = dict(machine.bucket)
    with pytest.raises(Refused, match="this data disk is new"):
        take(machine)
    assert machine.bucket == kept
    assert not machine.paths.disk_seen.exists()


@pytest.mark.parametrize("kind", [OpsError, Unavailable])
def test_a_bucket_that_may_not_be_looked_into_is_one_that_is_away(kind: type[OpsError]) -> None:
    def refuse(bucket: str, prefix: str) -> list[str]:
        raise kind("AWS says AccessDenied")

    world: Any = fakes.FakeWorld()
    world.aws.objects = refuse
    known = backup_take._in_bucket(fakes.site(), world)
    assert known.identities == frozenset()
    with pytest.raises(kind, match="AccessDenied"):
        known.all_of_them()
    assert "kept on this host" in world.progress[-1]


def test_what_cannot_be_brought_to_the_bucket_keeps_no_other_from_it_and_is_named(machine: FakeHost) -> None:
    machine.bucket_unreachable = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            take(machine)
    rotten, sound = waiting(machine)
    (machine.paths.pending / f"{rotten}.json").write_bytes(b"{")
    machine.bucket_unreachable = False
    made = take(machine)
    assert waiting(machine) == [rotten]
    assert {manifest.key_of(each) for each in (sound, made.identity)} <= set(machine.bucket)
    (machine.paths.pending / f"{made.identity}.json").write_bytes(manifest.to_json(made))
    _, (left,) = brought(machine, made)
    assert f"backup {rotten} cannot be brought to the bucket" in left
    assert f"{rotten}.json: take it away when it is of no use" in left


@pytest.mark.parametrize(
    ("there", "opened"),
    [
        ({"restic/config"}, 1),
        ({"restic/config", "restic/locks/0af3"}, 2),
        ({"restic/locks/0af3"}, 2),
        (set[str](), 2),
    ],
    ids=["at rest", "locked", "a lock and no repository", "nothing"],
)
def test_the_bucket_s_repository_is_opened_to_unlock_it_only_where_there_is_a_lock(
    machine: FakeHost, there: set[str], opened: int
) -> None:
    machine.bucket |= dict.fromkeys(there, b"")
    take(machine)
    # The host's own repository is one of those.
    assert machine.lock_removals == opened


def test_the_backup_that_was_made_and_cannot_be_brought_is_no_success(machine: FakeHost) -> None:
    made = take(machine)
    (machine.paths.pending / f"{made.identity}.json").write_bytes(b"{")
    with pytest.raises(OpsError, match="manifest is cut off"):
        brought(machine, made)


def test_a_repository_that_git_cannot_read_is_in_the_backup_and_is_named() -> None:
    known = contents.refs_from(f"{REFS}= a/half.git\n{contents.UNREADABLE}\n")
    assert known == {**contents.refs_from(REFS), "a/half.git": contents.UNREADABLE}
    made = fakes.made(manifest.moment_of("20261123T110000Z"), repositories=known)
    (line,) = backup_take._unread(made)
    assert line.startswith("the backup has a/half.git as it is, and git cannot read it")
