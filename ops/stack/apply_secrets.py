"""Apply the site's secrets on its host, and restart only the services whose secrets changed.

Wherever an earlier run was cut off, the next one ends in the same state: files, database, administrator and services all
have the current values.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets as randomness
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ops.config.compose_files import logs_command
from ops.config.gitea_settings import secrets_of
from ops.config.paths import PROJECT, SECRETS_DIRECTORY
from ops.config.schema import Site
from ops.errors import OpsError
from ops.model import Report
from ops.secrets import store
from ops.stack import accounts
from ops.stack.maintenance import GITEA
from ops.stack.restart import restart_gitea
from ops.world import World
from ops.world.containers import Service

# The services that read each file when they start. PostgreSQL reads its password only when the database is made: later the
# role is altered instead. Diun reads its two files for each mail (Diun 4.33, internal/notif/mail/client.go).
READERS: Mapping[str, tuple[str, ...]] = {
    "database-password": ("gitea",),
    "gitea-secret-key": ("gitea",),
    "gitea-internal-token": ("gitea",),
    "gitea-jwt-secret": ("gitea",),
    "metrics-token": ("gitea", "prometheus"),
    "monitoring-password": ("postgres-exporter",),
    "grafana-password": ("grafana",),
    "restic-password": (),
    "smtp-username": ("gitea", "alertmanager"),
    "smtp-password": ("gitea", "alertmanager"),
}
_HEALTHY_SECONDS = 180
_ITERATIONS = 4096


def apply(site: Site, world: World, *, pending: str = "", directory: Path = Path(SECRETS_DIRECTORY)) -> Report:
    """Apply the current secrets on the host; for the secret named ``pending``, its pending value.

    Raises OpsError when a service does not become healthy in time, or when the database or Gitea refuses.
    """
    written = store.fetch(site, world, pending=pending, directory=directory).facts["written"]
    running = {service.name: service for service in world.containers.services(PROJECT) if service.state == "running"}
    changed = list(written)
    # The file first: Gitea reads it at its next start, and by then the database accepts it, too.
    if "postgres" in running:
        changed += _roles(site, world, directory)
    readers = {**READERS, **dict.fromkeys(secrets_of(site.gitea.settings), ("gitea",))}
    restarted = plan_restarts(_write_times(directory, readers), running.values(), written, readers)
    if restarted:
        world.tell(f"restarting {', '.join(restarted)}")
        _restart(site, world, restarted)
    if "gitea" in running:
        stage = store.stage_of("admin-password", pending)
        password = world.aws.secret(store.secret_name(site, "admin-password"), stage)
        if accounts.ensure_admin(site, world, password=password).changed:
            changed.append("administrator")
    summary = f"applied: {', '.join(changed)}" if changed else "the secrets are in use"
    facts = {"written": written, "restarted": list(restarted)}
    return Report("secrets", bool(changed or restarted), summary, facts)


def _roles(site: Site, world: World, directory: Path) -> list[str]:
    """Give the database's roles their passwords, and return those that were altered."""
    changed = []
    if ensure_database_password((directory / "database-password").read_text(encoding="utf-8"), world):
        changed.append("role gitea")
    if ensure_monitoring_role(site, world, directory):
        changed.append("role monitoring")
    return changed


def _restart(site: Site, world: World, services: Iterable[str]) -> None:
    for service in services:
        if service == GITEA:
            restart_gitea(site, world, "It is being restarted with other secrets.", seconds=_HEALTHY_SECONDS)
        else:
            world.containers.stop(PROJECT, service)
            world.containers.start(PROJECT, service)


def plan_restarts(
    written: Mapping[str, datetime],
    services: Iterable[Service],
    changed: Collection[str] = (),
    read_by: Mapping[str, tuple[str, ...]] = READERS,
) -> tuple[str, ...]:
    """Return the services that started before one of their files was written, and the readers of the ``changed`` files.

    ``read_by`` has the services that read each file.

    The times alone are not enough: the clock may have been set back since a service started.
    """
    readers = {reader for file in changed for reader in read_by.get(file, ())}
    newest: dict[str, datetime] = {}
    for file, moment in written.items():
        for reader in read_by[file]:
            newest[reader] = max(moment, newest.get(reader, moment))
    return tuple(
        sorted(
            each.name
            for each in services
            if each.name in readers or (each.name in newest and each.started < newest[each.name])
        )
    )


def verifier_of(password: str, salt: bytes, iterations: int = _ITERATIONS) -> str:
    """Return the SCRAM verifier of a password as in pg_authid.rolpassword (RFC 5803). It cannot be used to sign in."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def verifier_accepts(verifier: str, password: str) -> bool:
    """Return whether a role with this verifier accepts the password; False for a verifier of another method."""
    method, _, rest = verifier.partition("$")
    iterations, _, salt = rest.partition("$")[0].partition(":")
    if method != "SCRAM-SHA-256" or not iterations.isdigit():
        return False
    return hmac.compare_digest(verifier, verifier_of(password, base64.b64decode(salt), int(iterations)))


def ensure_database_password(password: str, world: World) -> bool:
    """Alter Gitea's role in the database unless it accepts the password already; return whether it was altered.

    The connection uses the server's own socket, which needs no password. Raises OpsError when the server refuses.
    """
    if verifier_accepts(_sql(world, "SELECT rolpassword FROM pg_authid WHERE rolname = 'gitea'"), password):
        return False
    # The verifier and not the password: 40 random characters cannot be guessed from it.
    _sql(world, f"ALTER ROLE gitea PASSWORD '{verifier_of(password, randomness.token_bytes(16))}'")
    return True


def ensure_monitoring_role(site: Site, world: World, directory: Path) -> bool:
    """Ensure that the role of the PostgreSQL exporter exists, reads statistics alone, and accepts its password.

    Without monitoring it is removed. Returns whether something was changed; raises OpsError when the server refuses.
    """
    exists = _sql(world, "SELECT count(*) FROM pg_roles WHERE rolname = 'monitoring'") == "1"
    if not site.monitoring.enabled:
        if exists:
            _sql(world, "DROP ROLE monitoring")
        return exists
    file = directory / "monitoring-password"
    if not file.is_file():
        return False
    password = file.read_text(encoding="utf-8")
    if exists and verifier_accepts(
        _sql(world, "SELECT rolpassword FROM pg_authid WHERE rolname = 'monitoring'"), password
    ):
        return False
    if not exists:
        # The exporter has one connection, and one more while a scrape takes long.
        _sql(world, "CREATE ROLE monitoring LOGIN CONNECTION LIMIT 5 IN ROLE pg_monitor")
    _sql(world, f"ALTER ROLE monitoring PASSWORD '{verifier_of(password, randomness.token_bytes(16))}'")
    return True


def _sql(world: World, statement: str) -> str:
    argv = ["psql", "--no-psqlrc", "--username=gitea", "--dbname=gitea", "--tuples-only", "--no-align"]
    ran = world.containers.execute(PROJECT, "postgres", [*argv, "--command", statement], user="postgres")
    if ran.code:
        raise OpsError(f"PostgreSQL refuses: {ran.output.strip()}", f"look at {logs_command('postgres')}")
    return ran.output.strip()


def _write_times(directory: Path, names: Iterable[str]) -> dict[str, datetime]:
    files = {name: directory / name for name in names}
    return {name: datetime.fromtimestamp(file.stat().st_mtime, UTC) for name, file in files.items() if file.is_file()}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
