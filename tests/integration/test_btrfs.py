"""Real btrfs, mounts and restic in the image of ops: what a backup covers, what it leaves out, and what can be removed."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from ops.images.ops_image import OpsImage

# As for a host in a container: --privileged needs a capability that some machines lack.
_MAY_MOUNT = (
    *("--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
    *("--device-cgroup-rule=b 7:* rmw", "--device-cgroup-rule=c 10:237 rmw", "--volume=/dev:/dev"),
)  # fmt: skip
_SCRIPT = """
import json, os, subprocess, sys
from pathlib import Path

from ops.backup import caches, coverage
from ops.config.paths import HostPaths
from ops.errors import OpsError
from ops.world.btrfs import Btrfs
from ops.world.process import Processes
from ops.world.restic import Restic


def run(*argv):
    subprocess.run(argv, check=True, stdout=sys.stderr)


run("truncate", "--size=300M", "/root/disk")
run("mkfs.btrfs", "-q", "/root/disk")
disk = Path("/srv/gitea")
disk.mkdir()
run("mount", "-o", "loop", "/root/disk", str(disk))
found = {}
try:
    btrfs, paths = Btrfs(Processes()), HostPaths()

    class World:
        pass

    World.btrfs = btrfs

    def refusal():
        try:
            coverage.require_complete(World, paths)
        except OpsError as error:
            return error.message
        return ""

    def write(name, text="x"):
        file = paths.live / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    btrfs.make(paths.live)
    write("git/repositories/a/b.git/HEAD")
    for each in caches.CACHES:
        write(each + "/deep/file")
    os.chown(paths.live / "gitea/queues", 1000, 1000)
    (paths.live / "gitea/queues").chmod(0o700)
    btrfs.snapshot(paths.live, paths.snapshot)
    earlier = paths.snapshot_of("earlier")
    btrfs.rename(paths.snapshot, earlier)
    for each in caches.CACHES:
        write(each + "/another folder/new", "y")
        (paths.live / each / "deep/file").unlink()
    btrfs.snapshot(paths.live, paths.snapshot)
    ignored = tuple(caches.CACHES)
    found["caches alone"] = [btrfs.differs(paths.snapshot, earlier), btrfs.differs(paths.snapshot, earlier, ignored)]

    Path("/root/password").write_text("p")
    restic = Restic(Processes(), "/root/restic", Path("/root/password"), Path("/root/cache"))
    restic.make()
    stored = restic.store([paths.snapshot], host="h", tags=["data"], exclude=caches.patterns(paths.snapshot))
    target = Path("/root/restored")
    restic.restore(stored.snapshot, target, include=str(paths.snapshot))
    found["restored files"] = sorted(str(each.relative_to(target)) for each in target.rglob("*") if each.is_file())
    queues = (target / "gitea/queues").stat()
    found["queues"] = [queues.st_uid, oct(queues.st_mode & 0o777)]
    found["folders"] = sorted(each.name for each in (target / "gitea").iterdir())
    found["sizes"] = [restic.size(stored.snapshot) == stored.size]

    btrfs.remove(paths.snapshot)
    write("git/repositories/a/b.git/HEAD", "z")
    btrfs.snapshot(paths.live, paths.snapshot)
    found["a changed repository"] = btrfs.differs(paths.snapshot, earlier, ignored)

    team, lfs = paths.live / "git/repositories/team", paths.live / "git/lfs"
    btrfs.make(team)
    lfs.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", str(lfs))
    found["empty"] = refusal()
    write("git/repositories/team/a.git/HEAD")
    write("git/lfs/object")
    btrfs.make(team / "deep")
    found["with content"] = refusal()

    before = disk / ".restore" / "before"
    before.parent.mkdir()
    btrfs.rename(paths.live, before)
    try:
        btrfs.remove(before)
    except OpsError as error:
        found["with a mount"] = error.hint
    found["kept"] = (before / "git/lfs/object").exists()
    run("umount", str(before / "git/lfs"))
    btrfs.remove(before)
    found["left"] = before.exists()
finally:
    run("umount", "--recursive", str(disk))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(ops_image: OpsImage) -> dict[str, Any]:
    argv = ["docker", "run", "--rm", "--interactive", *_MAY_MOUNT, "--entrypoint=python3", ops_image.reference, "-"]
    done = subprocess.run(argv, input=_SCRIPT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_changes_of_caches_alone_do_not_count_as_changed_data(found: dict[str, Any]) -> None:
    assert found["caches alone"] == [True, False]
    assert found["a changed repository"] is True


def test_a_backup_has_the_folders_of_the_caches_and_not_their_content(found: dict[str, Any]) -> None:
    assert found["restored files"] == ["git/repositories/a/b.git/HEAD"]
    assert found["folders"] == ["indexers", "log", "queues", "repo-archive", "sessions", "tmp"]
    assert found["queues"] == [1000, "0o700"]
    assert found["sizes"] == [True]


def test_subvolumes_and_mounts_with_content_refuse_a_backup(found: dict[str, Any]) -> None:
    assert found["empty"] == ""
    assert "subvolume /srv/gitea/gitea/git/repositories/team" in found["with content"]
    assert "mount /srv/gitea/gitea/git/lfs" in found["with content"]


def test_data_that_was_set_aside_with_subvolumes_and_a_mount_can_be_removed(found: dict[str, Any]) -> None:
    assert found["with a mount"].startswith("run umount /srv/gitea/.restore/before/git/lfs")
    assert found["kept"] is True
    assert found["left"] is False
