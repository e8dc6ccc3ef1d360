"""The site's secrets: named here, made by Terraform, fetched by the host into memory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ops.config.paths import SECRETS_DIRECTORY
from ops.config.schema import Site
from ops.model import Report, Secret, SmtpCredentials
from ops.world import World
from ops.world.aws import CURRENT, PENDING


@dataclass(frozen=True)
class FilePermissions:
    """Who may read a secret's file: owner, group and mode."""

    owner: int
    group: int
    mode: int = 0o400


_ROOT, _GITEA, _POSTGRES = 0, 1000, 999

# The users inside the official images: gitea/gitea runs as 1000, postgres as 999. What two services read at their start
# as root belongs to root: Diun may not read past owner and mode, as Gitea's entry point may.
PERMISSIONS = {
    "database-password": FilePermissions(_GITEA, _POSTGRES, 0o440),
    "gitea-secret-key": FilePermissions(_GITEA, _GITEA),
    "gitea-internal-token": FilePermissions(_GITEA, _GITEA),
    "gitea-jwt-secret": FilePermissions(_GITEA, _GITEA),
    "metrics-token": FilePermissions(_GITEA, _GITEA),
    "restic-password": FilePermissions(_ROOT, _ROOT),
    "smtp-username": FilePermissions(_ROOT, _ROOT),
    "smtp-password": FilePermissions(_ROOT, _ROOT),
}

SMTP = "smtp-credentials"

# What the site has in Secrets Manager.
NAMES = (
    "admin-password",
    "database-password",
    "gitea-internal-token",
    "gitea-jwt-secret",
    "gitea-secret-key",
    "metrics-token",
    "restic-password",
    SMTP,
)


def secret_name(site: Site, short: str) -> str:
    """Return the name that a secret has in Secrets Manager."""
    return f"{site.name}/{short}"


def smtp_credentials(site: Site, world: World, *, directory: Path = Path(SECRETS_DIRECTORY)) -> SmtpCredentials:
    """Return what the host has in ``directory``, else what Secrets Manager has; raises OpsError when neither has any."""
    files = [directory / "smtp-username", directory / "smtp-password"]
    if all(file.is_file() for file in files):
        username, password = (file.read_text(encoding="utf-8") for file in files)
        return SmtpCredentials(username, Secret(password))
    return credentials_from(world.aws.secret(secret_name(site, SMTP)))


def credentials_from(document: Secret) -> SmtpCredentials:
    """Return the two parts of the secret that holds the SMTP credentials as one JSON document."""
    parts = json.loads(document.reveal())
    return SmtpCredentials(parts["username"], Secret(parts["password"]))


def fetch(site: Site, world: World, *, pending: str = "", directory: Path = Path(SECRETS_DIRECTORY)) -> Report:
    """Write each secret a container reads to a file in ``directory`` (on a tmpfs), readable by that container's user alone.

    Every value is read before the first file is written, so that a failure leaves the old set whole. Of the secret called
    ``pending`` it is the value that is to become current.
    """
    values = {
        short: world.aws.secret(secret_name(site, short), stage_of(short, pending))
        for short in PERMISSIONS
        if not short.startswith("smtp-")
    }
    credentials = credentials_from(world.aws.secret(secret_name(site, SMTP), stage_of(SMTP, pending)))
    values |= {"smtp-username": Secret(credentials.username), "smtp-password": credentials.password}
    changed = [short for short, value in values.items() if _write(directory / short, value, PERMISSIONS[short])]
    return Report("secrets", bool(changed), f"{len(values)} secrets in place", {"written": changed})


def stage_of(short: str, pending: str) -> str:
    """Return which stage of a secret is wanted while the one called ``pending`` is on its way to become current."""
    return PENDING if short == pending else CURRENT


def _write(path: Path, value: Secret, place: FilePermissions) -> bool:
    content = value.reveal().encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    # The mount of a running container points at the file itself, so an existing file is filled anew and never replaced.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    path.chmod(place.mode)
    os.chown(path, place.owner, place.group)
    return True
