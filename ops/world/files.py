"""The adapter for small files that must stay complete: at every moment either the old or the new content."""

from __future__ import annotations

import os
from pathlib import Path


class Files:
    """Writes files; they are on the disk when the call returns."""

    def write(self, path: Path, content: bytes) -> None:
        """Replace a file's content, and keep its owner and mode."""
        partial = path.with_name(f".{path.name}.partial")
        previous = path.stat() if path.exists() else None
        with partial.open("wb") as file:
            file.write(content)
            if previous:
                os.fchown(file.fileno(), previous.st_uid, previous.st_gid)
                os.fchmod(file.fileno(), previous.st_mode & 0o7777)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)

    def append(self, path: Path, line: str) -> None:
        """Append a line to a file, which is created if needed. After an incomplete last line it starts a new one."""
        with path.open("ab+") as file:
            end = file.tell()
            cut_off = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
            file.write(b"\n" * cut_off + f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def remove(self, path: Path) -> None:
        """Remove a file; a file that does not exist is not an error."""
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    file = os.open(folder, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
