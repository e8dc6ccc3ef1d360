"""The adapter for locks: one holder at a time, whose name the next one can read."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from ops.errors import Locked


@contextmanager
def exclusive(path: Path, now: datetime, verb: str = "") -> Iterator[None]:
    """Hold the lock at ``path`` during the block. The kernel frees it when the process ends, however it ends.

    Raises Locked with the ``verb`` and the process that hold it, and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise Locked(
                f"{path.stem} is already running: {file.read().strip()}",
                "wait until it has ended, then run the command again",
            ) from error
        file.truncate(0)
        file.write(f"{verb}{verb and ', '}process {os.getpid()}, since {now:%Y-%m-%d %H:%M:%S} UTC")
        file.flush()
        yield
