"""One ssh connection for all commands of a test run: a new connection takes a fifth of a second."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_connection() -> Iterator[str]:
    """Yield the ControlPath of a shared ssh connection, and close the connection after the block."""
    # Not below pytest's folder, whose path may be too long for a socket.
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/ssh"
        yield path
        end(path)


def end(path: str) -> None:
    """Close the connection if there is one, for example after a reboot of the host. The next command opens another."""
    subprocess.run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "any"], capture_output=True, check=False)
