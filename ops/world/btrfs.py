"""The adapter for btrfs: subvolumes and read-only snapshots, which take the same short time at any size."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from ops.errors import OpsError
from ops.world.btrfs_stream import SnapshotChanges
from ops.world.mounts import mounts_in
from ops.world.process import Processes

# The inode number of every subvolume's root (btrfs-subvolume(8)).
_ROOT_INODE = 256
_COUNTED = re.compile(r"\]\.(\w+)\s+(\d+)$", re.MULTILINE)
_LISTED = re.compile(r"^ID \d+ .*? path (.+)$", re.MULTILINE)
_LOOK = "look at the output of dmesg and of btrfs filesystem usage"


class Btrfs:
    """Makes, snapshots, clones and removes subvolumes."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def can_snapshot(self, folder: Path) -> bool:
        """Return whether the folder is a btrfs subvolume."""
        try:
            inode = folder.stat().st_ino
        except OSError:
            return False
        return inode == _ROOT_INODE and self._processes.run(["btrfs", "subvolume", "show", str(folder)]).code == 0

    def on_btrfs(self, folder: Path) -> bool:
        """Return whether the folder's file system is btrfs, in whatever state it is."""
        return self._processes.run(["stat", "--file-system", "--format", "%T", str(folder)]).output.strip() == "btrfs"

    def sync(self, folder: Path) -> None:
        """Flush the folder's file system to the disk, so that a snapshot does not have to wait for that."""
        self._do(["sync", "--file-system", str(folder)])

    def snapshot(self, folder: Path, snapshot: Path) -> None:
        """Make ``snapshot`` a read-only snapshot of the subvolume."""
        snapshot.parent.mkdir(mode=0o700, exist_ok=True)
        self._do(["btrfs", "subvolume", "snapshot", "-r", str(folder), str(snapshot)])

    def differs(self, snapshot: Path, earlier: Path, ignored: Sequence[str] = ()) -> bool:
        """Return whether a snapshot differs from an earlier one in content, names, owners, modes or times.

        The content of the ``ignored`` folders, which are paths below the snapshot, does not count. btrfs compares the two
        trees and skips what they share, which takes milliseconds at any size. For an identical snapshot it sends only the
        name (btrfs-send(8)).
        """
        argv = ["btrfs", "send", "--quiet", "--no-data", "-p", str(earlier), str(snapshot)]
        changes = SnapshotChanges(ignored)
        done = self._processes.pipe(argv, ["btrfs", "receive", "--dump"], environment={}, tell=changes.read)
        # The receiver ends after the stream's last command, and the sender may then still be writing: SIGPIPE is no failure.
        if done.code not in {0, -signal.SIGPIPE}:
            raise OpsError(f"{' '.join(argv[:2])} failed: {done.output.strip()}", _LOOK)
        return changes.changed

    def nested(self, folder: Path) -> tuple[Path, ...]:
        """Return the subvolumes directly below a subvolume, wherever in it they are. A snapshot has an empty folder for each.

        Empty for a folder that is not a subvolume. Raises OpsError when btrfs cannot list them.
        """
        if not self.can_snapshot(folder):
            return ()
        # Both are paths from the file system's own root, which may not be mounted.
        own = self._output(["btrfs", "subvolume", "show", str(folder)]).splitlines()[0].strip()
        prefix = "" if own in {"/", "<FS_TREE>"} else f"{own}/"
        listed = _LISTED.findall(self._output(["btrfs", "subvolume", "list", "-o", str(folder)]))
        return tuple(sorted(folder / each.removeprefix(prefix) for each in listed))

    def mounts(self, folder: Path) -> tuple[Path, ...]:
        """Return the mount points at or below a folder."""
        return mounts_in(folder)

    def clone(self, snapshot: Path, folder: Path) -> None:
        """Make ``folder`` a writable clone of a snapshot; the snapshot stays."""
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._do(["btrfs", "subvolume", "snapshot", str(snapshot), str(folder)])

    def errors(self, folder: Path) -> tuple[str, ...]:
        """Return what btrfs has counted against the folder's disk, such as "corruption_errs 2" (btrfs-device(8), "DEVICE STATS").

        Empty for a disk without counted errors; btrfs counts them as data is read. When the counters cannot be read, the
        result says so and is not empty.
        """
        done = self._processes.run(["btrfs", "device", "stats", str(folder)])
        counted = _COUNTED.findall(done.output)
        if done.code or not counted:
            return (f"unknown: {done.output.strip()}",)
        return tuple(f"{name} {count}" for name, count in counted if int(count))

    def make(self, folder: Path) -> None:
        """Make an empty subvolume."""
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._do(["btrfs", "subvolume", "create", str(folder)])

    def remove(self, folder: Path) -> None:
        """Remove a subvolume or folder with its content, including subvolumes in it. A missing folder is not an error.

        Raises OpsError, before anything is removed, when a file system is mounted in it: its content is not the folder's.
        """
        if mounted := self.mounts(folder):
            raise OpsError(
                f"{folder} cannot be removed, file systems are mounted in it: {', '.join(map(str, mounted))}",
                f"run umount {mounted[-1]} on the host, then run the command again",
                left_as=f"{folder} is as it was",
            )
        self._remove(folder)

    def _remove(self, folder: Path) -> None:
        if self.can_snapshot(folder):
            # btrfs deletes only a subvolume without others in it.
            for each in self.nested(folder):
                self._remove(each)
            self._do(["btrfs", "subvolume", "delete", str(folder)])
        elif folder.is_dir():
            shutil.rmtree(folder)

    def own_like(self, model: Path, folder: Path) -> None:
        """Give a folder the owner and mode of another."""
        attributes = model.stat()
        os.chown(folder, attributes.st_uid, attributes.st_gid)
        folder.chmod(attributes.st_mode & 0o7777)

    def free(self, folder: Path) -> int:
        """Return how many bytes the folder's file system has room for."""
        return shutil.disk_usage(folder).free

    def share_free(self, folder: Path) -> float:
        """Return which share of the folder's file system is free, from 0 to 1."""
        usage = shutil.disk_usage(folder)
        return usage.free / usage.total

    def rename(self, folder: Path, name: Path) -> None:
        """Rename a subvolume or folder on the same disk, atomically; the new name must not exist."""
        if name.exists():
            raise OpsError(f"{name} already exists", "check what it is, then remove it")
        folder.rename(name)

    def move(self, folder: Path, name: Path) -> None:
        """Move a folder to another subvolume of the same disk, where a rename is impossible; the new name must not exist.

        Its content is cloned. An interrupted move leaves the folder as it was, or the whole copy and FOLDER.moved.
        """
        try:
            self.rename(folder, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return
        partial = name.with_name(f"{name.name}.partial")
        self.remove(partial)
        self._do(["cp", "--archive", "--reflink=auto", str(folder), str(partial)])
        partial.rename(name)
        # Under another name: a folder that is half removed must not be moved again.
        moved = folder.with_name(f"{folder.name}.moved")
        folder.rename(moved)
        shutil.rmtree(moved)

    def exchange(self, one: Path, other: Path) -> None:
        """Exchange the names of two subvolumes or folders of a disk, atomically: both names exist at every moment."""
        self._do(["mv", "--exchange", "--no-target-directory", str(one), str(other)])

    def _do(self, argv: Sequence[str]) -> None:
        self._output(argv)

    def _output(self, argv: Sequence[str]) -> str:
        done = self._processes.run(argv)
        if done.code:
            raise OpsError(f"{' '.join(argv[:3])} failed: {done.output.strip()}", _LOOK)
        return done.output
