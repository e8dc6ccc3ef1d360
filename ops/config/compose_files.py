"""Which files Compose is given on the host: those that the stack's settings name, and what a verb lays over them."""

from __future__ import annotations

import re
from pathlib import Path

SETTINGS = ".env"


def files(folder: Path, *over: str) -> list[str]:
    """Return Compose's options for the stack in ``folder`` with more of its files laid over it.

    Compose itself follows the settings' COMPOSE_FILE only where no file is named to it. Whoever names one has to name all that
    the settings do: a container that was made from other files is made anew by the next plain `docker compose up`.
    """
    settings = folder / SETTINGS
    named = named_in(settings.read_text(encoding="utf-8") if settings.is_file() else "")
    return [part for each in (*named, *over) for part in ("--file", str(folder / each))]


def named_in(settings: str) -> tuple[str, ...]:
    """Return the files that Compose's settings name: compose.yaml where they name none."""
    found = re.search(r"^COMPOSE_FILE=(['\"]?)(\S+)\1$", settings, re.MULTILINE)
    return tuple(found[2].split(":")) if found else ("compose.yaml",)
