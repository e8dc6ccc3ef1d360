"""Log lines in Gitea's format: date, origin, level letter, message."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import NoReturn

from .release import installed_release


def info(where: str, message: str) -> None:
    """Logs a normal event."""
    _write("I", where, message)


def warning(where: str, message: str) -> None:
    """Logs an event that an administrator should know."""
    _write("W", where, message)


def error(where: str, message: str) -> None:
    """Logs an error that the program survives."""
    _write("E", where, message)


def fatal(where: str, message: str) -> NoReturn:
    """Logs an error that ends the program. Raises SystemExit(1)."""
    _write("F", where, message)
    raise SystemExit(1)


def _write(level: str, where: str, message: str) -> None:
    now = datetime.now().astimezone().strftime("%Y/%m/%d %H:%M:%S")
    stream = sys.stderr if installed_release().since(1, 27) else sys.stdout
    # One write call per line: lines of several threads must not mix.
    stream.write(f"{now} {where} [{level}] {message}\n")
    stream.flush()
