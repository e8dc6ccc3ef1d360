"""The site's secrets: their names, and the files in memory into which the host fetches them. Terraform makes them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ops.config import app_ini
from ops.config.checks import is_line
from ops.config.gitea_settings import NAME_PREFIX, secrets_of
from ops.config.paths import SECRETS_DIRECTORY
from ops.config.schema import Site
from ops.errors import OpsError, Refused, Unavailable
from ops.model import Report, Secret, SmtpCredentials
from ops.world import World
from ops.world.aws import CURRENT, PENDING


@dataclass(frozen=True)
class FilePermissions:
    """Owner, group and mode of a secret's file."""

    owner: int
    group: int
    mode: int = 0o400


_ROOT, _GITEA, _POSTGRES, _NOBODY, _GRAFANA = 0, 1000, 999, 65534, 472

# The users inside the official images: gitea/gitea runs as 1000, postgres as 999, Prometheus and Alertmanager as 65534,
# grafana/grafana as 472. Files that services read as root when they start belong to root: Gitea's entry point may read any
# file, but Diun must obey owner and mode.
PERMISSIONS = {
    "database-password": FilePermissions(_GITEA, _POSTGRES, 0o440),
    "gitea-secret-key": FilePermissions(_GITEA, _GITEA),
    "gitea-internal-token": FilePermissions(_GITEA, _GITEA),
    "gitea-jwt-secret": FilePermissions(_GITEA, _GITEA),
    "metrics-token": FilePermissions(_GITEA, _NOBODY, 0o440),
    "monitoring-password": FilePermissions(_NOBODY, _NOBODY),
    "grafana-password": FilePermissions(_GRAFANA, _GRAFANA),
    "restic-password": FilePermissions(_ROOT, _ROOT),
    "smtp-username": FilePermissions(_ROOT, _NOBODY, 0o440),
    "smtp-password": FilePermissions(_ROOT, _NOBODY, 0o440),
}

SMTP = "smtp-credentials"

# AWS's answers about a secret that does not exist, or that the host's role of an earlier suite may not read.
_MISSING = ("ResourceNotFoundException", "AccessDeniedException")
# Secrets that sites of earlier suites do not have before they are deployed again.
_NEW = frozenset({"grafana-password", "monitoring-password"})

# The site's secrets in Secrets Manager.
NAMES = (
    "admin-password",
    "database-password",
    "gitea-internal-token",
    "gitea-jwt-secret",
    "gitea-secret-key",
    "grafana-password",
    "metrics-token",
    "monitoring-password",
    "restic-password",
    SMTP,
)

# Those with a copy in the second region (infra/secrets.tf).
REPLICATED = ("gitea-secret-key", "restic-password")


def permissions(site: Site) -> dict[str, FilePermissions]:
    """Return the owner, group and mode of each secret's file, those of the site's own settings of Gitea included."""
    files = PERMISSIONS | dict.fromkeys(secrets_of(site.gitea.settings), PERMISSIONS["gitea-jwt-secret"])
    if not site.monitoring.enabled:
        for name in _NEW:
            del files[name]
    return files


def secret_name(site: Site, short: str) -> str:
    """Return the full name of a secret in Secrets Manager."""
    return f"{site.name}/{short}"


def smtp_credentials(site: Site, world: World, *, directory: Path = Path(SECRETS_DIRECTORY)) -> SmtpCredentials:
    """Return the credentials from ``directory``, else from Secrets Manager; raises OpsError when both have none."""
    files = [directory / "smtp-username", directory / "smtp-password"]
    if all(file.is_file() for file in files):
        try:
            username, password = (file.read_text(encoding="utf-8") for file in files)
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"cannot read the credentials in {directory}: {error}", "run ops secrets fetch") from error
        return SmtpCredentials(username, Secret(password))
    return credentials_from(world.aws.secret(secret_name(site, SMTP)))


def credentials_from(document: Secret) -> SmtpCredentials:
    """Return the SMTP credentials from their secret, a JSON document of user name and password.

    Raises Refused when the secret is something else; the message does not contain the value.
    """
    try:
        parts = json.loads(document.reveal())
    except (ValueError, RecursionError):
        parts = None
    values = [parts.get(key) for key in ("username", "password")] if isinstance(parts, dict) else []
    texts = [value for value in values if isinstance(value, str) and value and is_line(value)]
    if len(texts) != 2:
        raise Refused(
            f"the secret {SMTP} is not a JSON document of username and password, each one line of text",
            "run ops deploy on the deploying machine, which makes new credentials",
            left_as="no secret file was changed",
        )
    return SmtpCredentials(texts[0], Secret(texts[1]))


def fetch(site: Site, world: World, *, pending: str = "", directory: Path = Path(SECRETS_DIRECTORY)) -> Report:
    """Write each secret that a container reads to a file in ``directory`` (a tmpfs), readable by that container's user only.

    All values are read before the first file is written, so that a failure leaves the old files complete. For the secret
    named ``pending`` it is the pending value, else the current one.
    """
    files = permissions(site)
    names = [short for short in files if not short.startswith("smtp-")]
    values = {short: _value(site, world, short, stage_of(short, pending)) for short in names if short not in _NEW}
    values |= {short: value for short in _NEW.intersection(names) if (value := _new_value(site, world, short, pending))}
    credentials = credentials_from(world.aws.secret(secret_name(site, SMTP), stage_of(SMTP, pending)))
    values |= {"smtp-username": Secret(credentials.username), "smtp-password": credentials.password}
    changed = [short for short, value in values.items() if _write(directory / short, value, files[short])]
    return Report("secrets", bool(changed), f"{len(values)} secret files are up to date", {"written": changed})


def _new_value(site: Site, world: World, short: str, pending: str) -> Secret | None:
    """Return the value of a secret that the site of an earlier suite lacks until it is deployed, None without one."""
    try:
        return _value(site, world, short, stage_of(short, pending))
    except OpsError as error:
        if not any(reason in error.message for reason in _MISSING):
            raise
        world.tell(f"{short} is missing until the next ops deploy: {error.message}")
        return None


def _value(site: Site, world: World, short: str, stage: str) -> Secret:
    if not short.startswith(NAME_PREFIX):
        return world.aws.secret(secret_name(site, short), stage)
    try:
        value = world.aws.secret(secret_name(site, short), stage)
    except Unavailable:
        raise
    except OpsError as error:
        raise Refused(
            f"a setting of Gitea takes its value from the secret {short}, which cannot be read: {error.message}",
            f"run ops secrets set {short} on the deploying machine, then run ops deploy",
            left_as="no secret file was changed",
        ) from error
    return Secret(as_setting(value, short))


def as_setting(value: Secret, short: str) -> str:
    """Return the text that Gitea's start has to be given for a secret's value; raises Refused for one that app.ini cannot keep."""
    try:
        return app_ini.given(value.reveal())
    except app_ini.NotKeptError as error:
        raise Refused(
            f"Gitea's app.ini cannot keep the value of {short}: {error}",
            f"run ops secrets set {short} with another value",
            left_as="no secret file was changed",
        ) from error


def stage_of(short: str, pending: str) -> str:
    """Return the stage of a secret to read: the pending one for the secret named ``pending``, else the current one."""
    return PENDING if short == pending else CURRENT


def _write(path: Path, value: Secret, permissions: FilePermissions) -> bool:
    content = value.reveal().encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    try:
        _overwrite(path, content, permissions)
    except OSError as error:
        raise Refused(
            f"cannot write the secret file {path}: {error.strerror}", f"remove {path}, then run ops secrets fetch"
        ) from error
    return True


def _overwrite(path: Path, content: bytes, permissions: FilePermissions) -> None:
    # A running container mounts the file itself, so an existing file is overwritten and never replaced by another.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    path.chmod(permissions.mode)
    os.chown(path, permissions.owner, permissions.group)
