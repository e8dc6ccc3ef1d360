"""One connection over ssh for all that a test run asks of a host: each of its own takes a fifth of a second."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_connection() -> Iterator[str]:
    """Give the path of the socket through which commands share a connection, OpenSSH's ControlPath, and end it with the block."""
    # Not below pytest's own folder, which may be deeper than a socket's path can be.
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/ssh"
        yield path
        end(path)


def end(path: str) -> None:
    """End the connection, if there is one: after a reboot of the host it leads nowhere. The next command makes another."""
    subprocess.run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "any"], capture_output=True, check=False)
