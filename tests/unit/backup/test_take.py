"""Decisions before and after a backup is stored: whether the site has data, and which backups are uploaded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import contents, manifest, upload
from ops.backup import take as backup_take
from ops.errors import OpsError, Refused, Unavailable
from ops.step_timer import StepTimer
from ops.world.process import Finished
from ops.world.restic_locks import LockHolder
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


def test_the_bucket_s_repository_is_created_before_the_first_upload(machine: FakeHost) -> None:
    take(machine)
    assert "restic/config" in machine.bucket


def test_an_upload_removes_the_locks_of_killed_runs_and_no_other(
    machine: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "this-host")
    now = machine.clock.now()
    machine.lock_holders = {
        "dead": LockHolder("another-host", 7, now - timedelta(hours=1), exclusive=False),
        # restic's own unlock would remove it: no process of this container has this id.
        "live": LockHolder("this-host", 999_999, now, exclusive=False),
    }
    machine.bucket |= dict.fromkeys(("restic/config", "restic/locks/dead", "restic/locks/live"), b"")
    machine.processes = fakes.FakeProcesses(running_restic)
    take(machine)
    assert [key for key in machine.bucket if key.startswith("restic/locks/")] == ["restic/locks/live"]
    assert any("removed the lock of a killed run" in line and "another-host" in line for line in machine.progress)


def running_restic(argv: Sequence[str]) -> Finished:
    """A container of ``ops`` in which restic runs."""
    return Finished(0, "0af3\n") if argv[1] == "ps" else Finished(0, "PID COMMAND\n4250 restic check\n")


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
