"""Becoming root on this machine: through sudo, where this user is someone else; or why not."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence


def as_root(argv: Sequence[str]) -> list[str]:
    """Return the command as root runs it: through sudo where this user is someone else, and has it."""
    return [*argv] if os.geteuid() == 0 or not shutil.which("sudo") else ["sudo", *argv]


@functools.cache  # a password is asked for once
def obstacle() -> str:
    """Return why root is not to be had, or nothing where it is. Who sits at a terminal may be asked for a password."""
    if os.geteuid() == 0:
        return ""
    if not shutil.which("sudo"):
        return "needs root, and there is no sudo"
    # Where nobody can be asked for a password, sudo has to do without one.
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
