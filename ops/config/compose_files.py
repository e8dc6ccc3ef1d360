"""The Compose files of the stack on the host: those that its settings name, and further ones that a verb adds."""

from __future__ import annotations

import re
from pathlib import Path

from ops.config.paths import PROJECT

SETTINGS = ".env"


def logs_command(service: str, project: str = PROJECT) -> str:
    """Return the command that prints a service's logs, for hints and remedies."""
    return f"docker compose --project-name {project} logs {service}"


def doctor_command(project: str = PROJECT) -> str:
    """Return the command that runs those of Gitea's checks that read every repository, for hints and remedies.

    From 1.27 on, `gitea doctor check` runs no check that is not named.
    """
    checks = "synchronize-repo-heads,hooks"
    return f"docker compose --project-name {project} exec --user git gitea gitea doctor check --run {checks}"


def files(folder: Path, *over: str) -> list[str]:
    """Return Compose's ``--file`` options for the stack in ``folder``, with the files ``over`` behind its own.

    Compose ignores the settings' COMPOSE_FILE as soon as the command line has a ``--file``. So the command line must name
    all files of the settings: the next plain `docker compose up` recreates a container that was made from other files.
    """
    settings = folder / SETTINGS
    named = named_in(settings.read_text(encoding="utf-8") if settings.is_file() else "")
    return [part for each in (*named, *over) for part in ("--file", str(folder / each))]


def named_in(settings: str) -> tuple[str, ...]:
    """Return the files that Compose's settings name, compose.yaml where they name none."""
    found = re.search(r"^COMPOSE_FILE=(['\"]?)(\S+)\1$", settings, re.MULTILINE)
    return tuple(found[2].split(":")) if found else ("compose.yaml",)
