"""btrfs: differences outside of ignored folders, and the removal of subvolumes and mounts inside a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.errors import OpsError
from ops.world.btrfs import Btrfs
from ops.world.btrfs_stream import SnapshotChanges
from ops.world.mounts import mounts_in
from ops.world.process import Finished

IGNORED = ("gitea/queues", "gitea/indexers")
BEGIN = "snapshot        ./s2                            uuid=3476e878 transid=9 parent_uuid=f7f91621 parent_transid=8"
TIMES = "atime=2026-11-30T23:23:10+0000 mtime=2026-11-30T23:23:10+0000 ctime=2026-11-30T23:23:10+0000"
# Recorded from btrfs-progs 6.2: files and folders that came and went in two caches.
CACHES_ONLY = f"""\
unlink          ./s2/gitea/queues/common/1.log
mkfile          ./s2/o267-9-0
rename          ./s2/o267-9-0                   dest=./s2/gitea/queues/common/3
update_extent   ./s2/gitea/queues/common/3      offset=0 len=2
chown           ./s2/gitea/queues/common/3      gid=0 uid=0
chmod           ./s2/gitea/queues/common/3      mode=644
mkdir           ./s2/o268-9-0
rename          ./s2/o268-9-0                   dest=./s2/gitea/indexers/a\\ b
mkdir           ./s2/o269-9-0
rename          ./s2/o269-9-0                   dest=./s2/gitea/indexers/a\\ b/c
utimes          ./s2/gitea/indexers/a\\ b/c     {TIMES}
rename          ./s2/gitea/indexers/old         dest=./s2/o258-9-0
rename          ./s2/o258-9-0/c                 dest=./s2/o259-9-0
rmdir           ./s2/o258-9-0
unlink          ./s2/o259-9-0/d
rmdir           ./s2/o259-9-0
utimes          ./s2/gitea/indexers             {TIMES}
utimes          ./s2/gitea                      {TIMES}
utimes          ./s2                            {TIMES}
"""


def changed(*lines: str, ignored: Sequence[str] = IGNORED) -> bool:
    changes = SnapshotChanges(ignored)
    for each in lines:
        changes.read(each)
    return changes.changed


def test_an_identical_snapshot_does_not_differ() -> None:
    assert not changed(BEGIN, ignored=())


def test_changes_in_ignored_folders_do_not_count() -> None:
    assert not changed(BEGIN, *CACHES_ONLY.splitlines())
    assert changed(BEGIN, *CACHES_ONLY.splitlines(), ignored=())
    assert changed(BEGIN, *CACHES_ONLY.splitlines(), ignored=IGNORED[:1])


@pytest.mark.parametrize(
    "line",
    [
        f"utimes          ./s2/git/repositories/a/b.git   {TIMES}",
        "update_extent   ./s2/git/repositories/a/b.git/HEAD offset=0 len=2",
        "link            ./s2/git/l                      dest=gitea/queues/x",
        "chmod           ./s2/gitea/queues               mode=700",
        "chown           ./s2/gitea                      gid=0 uid=0",
        "rename          ./s2/gitea/queues               dest=./s2/o270-9-0",
        "rename          ./s2/gitea/queues/x             dest=./s2/git/x",
        "rename          ./s2/git/x                      dest=./s2/gitea/queues/x",
        "rename          ./s2/o270-9-0                   dest=./s2/gitea/queues/x",
        "rmdir           ./s2/gitea/queues",
        "mkfile          ./s2/o270-9-0",
        "unlink          ./s2/gitea/queues.txt",
        "unlink          ./s2/o270-9-0",
        "",
    ],
)
def test_any_other_change_counts(line: str) -> None:
    assert changed(BEGIN, line)


def test_a_new_file_outside_counts() -> None:
    assert changed(BEGIN, "mkfile ./s2/o270-9-0", "rename ./s2/o270-9-0 dest=./s2/gitea/attachments/1")


def test_a_stream_without_its_first_command_counts_as_a_difference() -> None:
    assert changed()
    assert changed("unlink ./s2/gitea/queues/1")


TABLE = """\
22 1 0:21 / / rw - overlay overlay rw
23 22 0:22 / /srv/gitea rw - btrfs /dev/sdb rw
24 23 0:23 / /srv/gitea/gitea/git/lfs rw - tmpfs tmpfs rw
25 23 0:24 / /srv/gitea/gitea/a\\040b rw - tmpfs tmpfs rw
26 23 0:25 / /srv/gitea/gitea-old rw - tmpfs tmpfs rw
"""


def test_mounts_in_a_folder_are_found_with_their_real_names(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    found = mounts_in(Path("/srv/gitea/gitea"), table)
    assert list(map(str, found)) == ["/srv/gitea/gitea/a b", "/srv/gitea/gitea/git/lfs"]
    assert mounts_in(Path("/srv/gitea/gitea/git/repositories"), table) == ()


def test_this_process_s_mounts_are_read() -> None:
    assert Path("/proc") in mounts_in(Path("/"))


def test_a_folder_with_a_mount_in_it_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "before"
    (folder / "git/lfs").mkdir(parents=True)
    (folder / "git/lfs/object").write_text("another file system's")
    monkeypatch.setattr(Btrfs, "mounts", lambda self, folder: (folder / "git/lfs",))
    processes: Any = None
    with pytest.raises(OpsError) as raised:
        Btrfs(processes).remove(folder)
    assert f"file systems are mounted in it: {folder}/git/lfs" in raised.value.message
    assert raised.value.hint == f"run umount {folder}/git/lfs on the host, then run the command again"
    assert (folder / "git/lfs/object").exists()


def test_subvolumes_in_a_subvolume_are_deleted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path("/srv/gitea/.restore/before")
    team, deep = before / "git/repositories/team", before / "git/repositories/team/deep"
    paths = {str(before): "data/.restore/before", str(team): "data/.restore/before/git/repositories/team"}
    deleted: list[str] = []

    class Programs:
        def run(self, argv: list[str]) -> Finished:
            *command, folder = argv
            if command == ["btrfs", "subvolume", "show"]:
                return Finished(0, f"{paths.get(folder, folder)}\n\tName: \t\t\tx\n")
            if command == ["btrfs", "subvolume", "list", "-o"]:
                child = {str(before): (257, 256, team), str(team): (258, 257, deep)}.get(folder)
                listed = (
                    child
                    and f"ID {child[0]} gen 8 top level {child[1]} path data{str(child[2])[len('/srv/gitea') :]}\n"
                )
                return Finished(0, listed or "")
            assert command == ["btrfs", "subvolume", "delete"]
            deleted.append(folder)
            return Finished(0, "")

    monkeypatch.setattr(Btrfs, "can_snapshot", lambda self, folder: True)
    processes: Any = Programs()
    adapter = Btrfs(processes)
    assert adapter.nested(before) == (team,)
    adapter.remove(before)
    assert deleted == [str(deep), str(team), str(before)]


def test_a_plain_folder_has_no_subvolumes_and_is_removed(tmp_path: Path) -> None:
    processes: Any = None
    (tmp_path / "plain/deep").mkdir(parents=True)
    assert Btrfs(processes).nested(tmp_path / "plain") == ()
    Btrfs(processes).remove(tmp_path / "plain")
    Btrfs(processes).remove(tmp_path / "plain")
    assert not (tmp_path / "plain").exists()
