"""A backup covers all of Gitea's data, or is refused, or names the parts that it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.backup import coverage, take
from ops.errors import Refused
from tests.support.fake_host import FakeHost


@pytest.fixture
def machine(tmp_path: Path, without_base_backups: None) -> FakeHost:
    return FakeHost(directory=tmp_path)


def place(machine: FakeHost, name: str, *files: str) -> Path:
    folder = machine.paths.live / name
    folder.mkdir(parents=True)
    for each in files:
        (folder / each).write_text("content")
    return folder


def test_a_subvolume_and_a_mount_with_content_refuse_the_backup_and_are_named(machine: FakeHost) -> None:
    team, lfs = place(machine, "git/repositories/team", "a.git"), place(machine, "git/lfs", "object")
    machine.nested_subvolumes, machine.mounted = (team,), (lfs,)
    with pytest.raises(Refused) as raised:
        machine.back_up()
    assert raised.value.exit_code == 4
    assert f"mount {lfs}, subvolume {team}" in raised.value.message
    assert "umount" in raised.value.hint
    assert "nothing was changed" in raised.value.left_as
    assert machine.actions == []


def test_a_backup_for_an_update_is_refused_too(machine: FakeHost) -> None:
    machine.mounted = (place(machine, "git/lfs", "object"),)
    world: Any = machine
    with pytest.raises(Refused, match="would miss: mount"):
        take.of_this_moment(machine.site(), world, machine.paths)


def test_an_empty_subvolume_and_an_empty_mount_do_not_refuse_the_backup(machine: FakeHost) -> None:
    machine.nested_subvolumes = (place(machine, "git/repositories/team"),)
    machine.mounted = (place(machine, "git/lfs"), machine.paths.live)
    assert machine.back_up().exit_code == 0


def test_without_btrfs_a_mount_is_read_and_not_refused(machine: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.mounted = (place(machine, "git/lfs", "object"),)
    monkeypatch.setattr(machine, "can_snapshot", lambda folder: False)
    world: Any = machine
    coverage.require_complete(world, machine.paths)
    assert machine.actions == []


@pytest.mark.parametrize(
    ("link", "target", "leaves"),
    [
        ("git/lfs", "/mnt/big/lfs", True),
        ("git/lfs", "../../lfs", True),
        ("git/lfs", "/data/../etc", True),
        ("git/lfs", "/database", True),
        ("git/lfs", "/data/gitea/lfs", False),
        ("git/lfs", "/data", False),
        ("git/repositories/a/b.git", "../c/d.git", False),
        ("git/repositories/a/b.git", "../../../gitea", False),
        ("gitea/tmp/local-repo/1/link", "/etc/passwd", False),
        ("gitea/queues", "/mnt/queues", True),
    ],
)
def test_links_that_leave_the_data_are_named(tmp_path: Path, link: str, target: str, leaves: bool) -> None:
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(target)
    assert coverage.links_leaving(tmp_path) == ((f"{link} -> {target}",) if leaves else ())


def test_a_link_whose_name_is_not_text_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9").symlink_to("/mnt")
    (line,) = coverage.links_leaving(tmp_path)
    assert line == "caf\\xe9 -> /mnt"


def test_a_backup_reports_a_link_that_leaves_the_data_each_time(machine: FakeHost) -> None:
    (machine.paths.live / "lfs").symlink_to("/mnt/lfs")
    for number in range(2):
        machine.actions.clear()
        report = machine.back_up()
        # The second backup reuses the data of the first, and does not read it again.
        assert ("store data" in machine.actions) == (number == 0)
        assert report.exit_code == 3
        (line,) = report.lines
        assert line.startswith("the target of lfs -> /mnt/lfs is not in the backup: move it into")
