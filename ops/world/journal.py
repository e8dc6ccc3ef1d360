"""The adapter for a journal: each step is on the disk before it is taken, and readable however the process ended."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.world.files import sync_folder


class Journal:
    """Records in a file, one line each: a checksum, and the record as JSON. Lines are only appended.

    A record is read completely or not at all. An incomplete line, or one with a wrong checksum, ends the journal; lines
    after it do not count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def records(self) -> tuple[Mapping[str, Any], ...]:
        """Return the records, oldest first; empty without a journal."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        return tuple(record for record, _ in _whole(content))

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a record, which is on the disk when this returns. Removes an incomplete last line first."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = not self._path.exists()
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with open(file, "rb", closefd=False) as reader:
                end = max((end for _, end in _whole(reader.read())), default=0)
            os.ftruncate(file, end)
            os.pwrite(file, _line(record), end)
            os.fsync(file)
        finally:
            os.close(file)
        if new:
            sync_folder(self._path.parent)

    def close(self) -> None:
        """Delete the journal; a journal that does not exist is not an error."""
        self._path.unlink(missing_ok=True)
        if self._path.parent.is_dir():
            sync_folder(self._path.parent)


def _line(record: Mapping[str, Any]) -> bytes:
    content = json.dumps(dict(record), sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _whole(content: bytes) -> list[tuple[Mapping[str, Any], int]]:
    """The records before the first invalid line, each with the position of its end."""
    found, end = [], 0
    for line in content.splitlines(keepends=True):
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
            break
        end += len(line)
        found.append((json.loads(text), end))
    return found
