"""The door to small files that must be right: at every moment the one before or the one after, whole."""

from __future__ import annotations

import os
from pathlib import Path


class Files:
    """Writes files that are on the disk for certain when the call returns."""

    def write(self, path: Path, content: bytes) -> None:
        """Put content in the place of a file's, with its owner and mode."""
        partial = path.with_name(f".{path.name}.partial")
        known = path.stat() if path.exists() else None
        with partial.open("wb") as file:
            file.write(content)
            if known:
                os.fchown(file.fileno(), known.st_uid, known.st_gid)
                os.fchmod(file.fileno(), known.st_mode & 0o7777)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)

    def append(self, path: Path, line: str) -> None:
        """Add a line to a file, which is made when it is not there. Behind one that was cut off it begins a new one."""
        with path.open("ab+") as file:
            end = file.tell()
            cut_off = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
            file.write(b"\n" * cut_off + f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def remove(self, path: Path) -> None:
        """Remove a file; one that is not there is no error."""
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    file = os.open(folder, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
