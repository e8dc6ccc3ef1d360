"""Log lines in Gitea's format: date, origin, level letter, message."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import NoReturn

_LEVELS = {"trace": 0, "debug": 1, "info": 2, "warn": 3, "error": 4, "critical": 5, "fatal": 6, "none": 7}
_lowest = {"level": _LEVELS["info"]}


def set_level(name: str) -> None:
    """Drops lines below `name` (trace, debug, info, warn, error ...); an unknown name means info."""
    _lowest["level"] = _LEVELS.get(name.lower(), _LEVELS["info"])


def info(where: str, message: str) -> None:
    """Logs a normal event."""
    _write("info", where, message)


def error(where: str, message: str) -> None:
    """Logs an error that the program survives."""
    _write("error", where, message)


def fatal(where: str, message: str) -> NoReturn:
    """Logs an error that ends the program. Raises SystemExit(1)."""
    _write("fatal", where, message)
    raise SystemExit(1)


def _write(level: str, where: str, message: str) -> None:
    if _LEVELS[level] >= _lowest["level"]:
        now = datetime.now().astimezone().strftime("%Y/%m/%d %H:%M:%S")
        # One write call per line: lines of several threads must not mix.
        sys.stdout.write(f"{now} {where} [{level[0].upper()}] {message}\n")
        sys.stdout.flush()
