"""The door to btrfs: subvolumes, and read-only pictures of them that take an instant whatever their size."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from ops.errors import OpsError
from ops.world.process import Processes

# The inode number of every subvolume's root (btrfs-subvolume(8)).
_ROOT_INODE = 256
_COUNTED = re.compile(r"\]\.(\w+)\s+(\d+)$", re.MULTILINE)
# The line that names a picture, and one that tells of a difference.
_ENOUGH = 2


class Btrfs:
    """Makes, photographs and removes subvolumes."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def can_snapshot(self, folder: Path) -> bool:
        """Tell whether the folder is a subvolume of btrfs."""
        try:
            inode = folder.stat().st_ino
        except OSError:
            return False
        return inode == _ROOT_INODE and self._processes.run(["btrfs", "subvolume", "show", str(folder)]).code == 0

    def on_btrfs(self, folder: Path) -> bool:
        """Tell whether the folder's file system is btrfs, whatever state that is in."""
        return self._processes.run(["stat", "--file-system", "--format", "%T", str(folder)]).output.strip() == "btrfs"

    def sync(self, folder: Path) -> None:
        """Have what is written in the folder's file system on the disk, so that a picture of it need not wait for that."""
        self._do(["sync", "--file-system", str(folder)])

    def snapshot(self, folder: Path, picture: Path) -> None:
        """Make ``picture`` a read-only copy of the subvolume as it is now."""
        picture.parent.mkdir(mode=0o700, exist_ok=True)
        self._do(["btrfs", "subvolume", "snapshot", "-r", str(folder), str(picture)])

    def differs(self, picture: Path, earlier: Path) -> bool:
        """Tell whether anything in a picture is not as in an earlier one: content, names, owners, modes or times.

        btrfs compares the two trees and skips what they share, which takes milliseconds however large they are; what it would
        send of a picture that is the same is its name alone (btrfs-send(8)).
        """
        argv = ["btrfs", "send", "--quiet", "--no-data", "-p", str(earlier), str(picture)]
        told: list[str] = []
        hear: Callable[[str], None] = lambda line: told.append(line.split()[0]) if len(told) < _ENOUGH else None  # noqa: E731
        done = self._processes.pipe(argv, ["btrfs", "receive", "--dump"], environment={}, tell=hear)
        # Who has read the stream's last command is well, and ends; the sender may still have been about to write.
        if done.code not in {0, -signal.SIGPIPE}:
            raise OpsError(f"{' '.join(argv[:2])} failed: {done.output.strip()}", "dmesg; btrfs filesystem usage")
        return told != ["snapshot"]

    def clone(self, picture: Path, folder: Path) -> None:
        """Make ``folder`` a copy of a picture that can be written to; the picture stays."""
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._do(["btrfs", "subvolume", "snapshot", str(picture), str(folder)])

    def errors(self, folder: Path) -> tuple[str, ...]:
        """Return what btrfs has counted against the folder's disk, such as "corruption_errs 2" (btrfs-device(8), "DEVICE STATS").

        Nothing for a disk that has always returned what was written, as far as anyone has read it. A disk of which that
        cannot be told is not one of them.
        """
        done = self._processes.run(["btrfs", "device", "stats", str(folder)])
        counted = _COUNTED.findall(done.output)
        if done.code or not counted:
            return (f"cannot be told: {done.output.strip()}",)
        return tuple(f"{name} {count}" for name, count in counted if int(count))

    def make(self, folder: Path) -> None:
        """Make an empty subvolume."""
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._do(["btrfs", "subvolume", "create", str(folder)])

    def remove(self, folder: Path) -> None:
        """Remove a subvolume or folder with all that is in it. One that is not there is no error."""
        if self.can_snapshot(folder):
            self._do(["btrfs", "subvolume", "delete", str(folder)])
        elif folder.is_dir():
            shutil.rmtree(folder)

    def own_like(self, model: Path, folder: Path) -> None:
        """Give a folder the owner and mode of another."""
        known = model.stat()
        os.chown(folder, known.st_uid, known.st_gid)
        folder.chmod(known.st_mode & 0o7777)

    def free(self, folder: Path) -> int:
        """Return how many bytes the folder's file system has room for."""
        return shutil.disk_usage(folder).free

    def share_free(self, folder: Path) -> float:
        """Return which share of the folder's file system is free, from 0 to 1."""
        usage = shutil.disk_usage(folder)
        return usage.free / usage.total

    def rename(self, folder: Path, name: Path) -> None:
        """Give a subvolume or folder another name on the same disk, in an instant; what has that name must not exist."""
        if name.exists():
            raise OpsError(f"{name} exists already", "look at what it is, then remove it")
        folder.rename(name)

    def exchange(self, one: Path, other: Path) -> None:
        """Give two subvolumes or folders of a disk each other's names, at once: there is no moment without either."""
        self._do(["mv", "--exchange", "--no-target-directory", str(one), str(other)])

    def _do(self, argv: Sequence[str]) -> None:
        done = self._processes.run(argv)
        if done.code:
            raise OpsError(f"{' '.join(argv[:3])} failed: {done.output.strip()}", "dmesg; btrfs filesystem usage")
