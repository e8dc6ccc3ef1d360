"""Root on this machine: through sudo for other users, or the reason why it is not available."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence


def as_root(argv: Sequence[str]) -> list[str]:
    """Return the command for root: with sudo in front unless this user is root or there is no sudo."""
    return [*argv] if os.geteuid() == 0 or not shutil.which("sudo") else ["sudo", *argv]


@functools.cache  # asks for a password only once
def obstacle() -> str:
    """Return why root is not available, or "" when it is. At a terminal, sudo may ask for a password."""
    if os.geteuid() == 0:
        return ""
    if not shutil.which("sudo"):
        return "needs root, and there is no sudo"
    # Without a terminal, sudo must work without a password.
    if _works(["sudo", "-n", "true"]) or (_has_terminal() and _works(["sudo", "-v"], quiet=False)):
        return ""
    return "needs root, and sudo does not permit it to this user"


def _works(argv: Sequence[str], *, quiet: bool = True) -> bool:
    return subprocess.run(argv, capture_output=quiet, check=False).returncode == 0


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True
