"""Secrets are applied on the host, wherever an earlier run was cut off."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.errors import OpsError
from ops.model import Report
from ops.secrets import store
from ops.stack import accounts, apply_secrets
from ops.world.containers import Ran, Service
from tests.support import fakes

NOW = datetime.now(UTC)
# PostgreSQL 18's own verifier of the password "pencil", read from pg_authid.
PENCIL = (
    "SCRAM-SHA-256$4096:9n9FbOwh6ipoZp/GZJDQOw==$"
    "G8xKuw5pAgZ9tW1P6ovuSVfumcvV2R4aPGzulzS/rf8=:YykfINSLQleeiiFeB2mOzd4xNVlB2PHVldTJDwkJkWw="
)


@dataclass
class Postgres:
    """A PostgreSQL with the verifiers of two roles, Gitea's and the exporter's."""

    verifier: str = ""
    monitoring: str = ""
    statements: list[str] = field(default_factory=list)

    def command(self, argv: Sequence[str]) -> Ran:
        statement = argv[-1]
        self.statements.append(statement)
        if "monitoring" in statement:
            return Ran(0, f"{self._monitoring(statement)}\n")
        if altered := re.fullmatch(r"ALTER ROLE gitea PASSWORD '(.+)'", statement):
            self.verifier = altered[1]
            return Ran(0, "ALTER ROLE\n")
        return Ran(0, f"{self.verifier}\n")

    def _monitoring(self, statement: str) -> str:
        if altered := re.fullmatch(r"ALTER ROLE monitoring PASSWORD '(.+)'", statement):
            self.monitoring = altered[1]
        elif statement == "CREATE ROLE monitoring LOGIN CONNECTION LIMIT 5 IN ROLE pg_monitor":
            self.monitoring = self.monitoring or "new"
        elif statement == "DROP ROLE monitoring":
            self.monitoring = ""
        elif "count(*)" in statement:
            return str(int(bool(self.monitoring)))
        return self.monitoring

    def accepts(self, password: str) -> bool:
        return apply_secrets.verifier_accepts(self.verifier, password)


@dataclass
class Host:
    """A host whose services started a minute ago, and its folder of secrets."""

    directory: Path
    postgres: Postgres
    world: fakes.FakeWorld
    administrator: list[str]

    def apply(self, pending: str = "") -> Report:
        return apply_secrets.apply(fakes.site(), self.world, pending=pending, directory=self.directory)  # type: ignore[arg-type]

    def age_files(self) -> None:
        for file in self.directory.iterdir():
            os.utime(file, (NOW.timestamp() - 3600,) * 2)


def _values(word: str) -> dict[str, str]:
    names = [*(name for name in store.PERMISSIONS if not name.startswith("smtp-")), "admin-password"]
    values = {f"test/{name}": f"{word}-{name}" for name in names}
    return values | {"test/smtp-credentials": json.dumps({"username": "AKIA", "password": f"{word}-smtp-password"})}


def _running(name: str) -> Service:
    return Service(name, "image", "running", "healthy", 0, NOW - timedelta(minutes=1))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that uses the current secrets."""
    fakes.own_secrets(monkeypatch)
    postgres, administrator = Postgres(), ["old-admin-password"]

    def ensure_admin(_site: object, _world: object, *, password: Any) -> Report:
        changed = administrator[-1] != password.reveal()
        if changed:
            administrator.append(password.reveal())
        return Report("accounts", changed, "")

    monkeypatch.setattr(accounts, "ensure_admin", ensure_admin)
    services = tuple(
        _running(name) for name in ("diun", "docker-socket-proxy", "door", "gitea", "haproxy", "nginx", "postgres")
    )
    containers = fakes.FakeContainers(services, {"postgres": postgres.command})
    world = fakes.FakeWorld(aws=fakes.FakeAws(_values("old")), containers=containers)
    made = Host(tmp_path, postgres, world, administrator)
    made.apply()
    made.age_files()
    # Set their start back to a minute ago: file times are coarser than the clock, and a file written now may seem older.
    containers.found = services
    containers.restarted.clear()
    postgres.statements.clear()
    return made


def test_a_host_that_uses_the_current_secrets_is_left_alone(host: Host) -> None:
    report = host.apply()
    assert (report.changed, report.summary) == (False, "the secrets are in use")
    assert host.world.containers.restarted == []
    assert not any(statement.startswith("ALTER") for statement in host.postgres.statements)


@pytest.mark.parametrize(
    ("name", "restarted"),
    [
        ("database-password", ["gitea"]),
        ("gitea-internal-token", ["gitea"]),
        ("gitea-jwt-secret", ["gitea"]),
        ("metrics-token", ["gitea"]),
        ("smtp-credentials", ["gitea"]),
        ("admin-password", []),
    ],
)
def test_a_pending_value_restarts_only_its_readers(name: str, restarted: list[str], host: Host) -> None:
    host.world.aws.pending = _values("new")
    assert host.apply(name).changed is True
    assert host.world.containers.restarted == restarted
    host.age_files()
    assert host.apply(name).changed is False


def test_a_reader_of_a_new_value_is_restarted_although_its_start_is_in_the_future(host: Host) -> None:
    host.world.containers.found = tuple(
        dataclasses.replace(each, started=NOW + timedelta(days=1)) for each in host.world.containers.found
    )
    host.world.aws.pending = _values("new")
    host.apply("metrics-token")
    assert host.world.containers.restarted == ["gitea"]


def test_the_database_accepts_only_the_new_password_and_gets_only_a_verifier(host: Host) -> None:
    host.world.aws.pending = _values("new")
    host.apply("database-password")
    assert host.postgres.accepts("new-database-password")
    assert not host.postgres.accepts("old-database-password")
    assert (host.directory / "database-password").read_text() == "new-database-password"
    assert "database-password" not in str(host.world.containers.executed)


def test_applying_without_a_pending_value_restores_the_current_values(host: Host) -> None:
    host.world.aws.pending = _values("new")
    host.apply("database-password")
    host.apply("admin-password")
    assert host.administrator[-1] == "new-admin-password"
    host.apply()
    assert host.postgres.accepts("old-database-password")
    assert (host.directory / "database-password").read_text() == "old-database-password"
    assert host.administrator[-1] == "old-admin-password"


def test_a_file_written_before_a_cut_off_still_restarts_its_reader(host: Host) -> None:
    (host.directory / "metrics-token").chmod(0o600)
    (host.directory / "metrics-token").write_text("new-metrics-token")
    host.world.aws.secrets["test/metrics-token"] = "new-metrics-token"
    assert host.apply().changed is True
    assert host.world.containers.restarted == ["gitea"]


def test_a_database_altered_before_a_cut_off_accepts_the_current_password_again(host: Host) -> None:
    host.postgres.verifier = apply_secrets.verifier_of("a pending password", b"salt")
    host.apply()
    assert host.postgres.accepts("old-database-password")


def test_before_the_stack_starts_the_database_gets_the_password_and_no_service_is_restarted(host: Host) -> None:
    host.world.containers.found = (_running("postgres"),)
    host.postgres.verifier = apply_secrets.verifier_of("another", b"salt")
    host.world.aws.secrets = _values("new")
    host.apply()
    assert host.postgres.accepts("new-database-password")
    assert host.world.containers.restarted == []
    assert host.administrator[-1] == "old-admin-password"


def test_a_host_without_containers_gets_only_its_files(host: Host) -> None:
    host.world.containers.found = ()
    host.world.aws.secrets = _values("new")
    host.apply()
    assert (host.directory / "metrics-token").read_text() == "new-metrics-token"
    assert host.postgres.statements == []


def test_a_service_that_does_not_become_healthy_is_named_with_the_command_for_its_logs(host: Host) -> None:
    host.world.containers.never_healthy = frozenset({"gitea"})
    host.world.aws.pending = _values("new")
    with pytest.raises(OpsError, match="gitea: not healthy 180 s after the restart") as failed:
        host.apply("metrics-token")
    assert failed.value.hint.endswith("logs gitea")


def test_an_error_quotes_the_output_of_postgresql(host: Host) -> None:
    host.world.containers.answers["postgres"] = lambda _: Ran(2, "FATAL: no such role\n")
    with pytest.raises(OpsError, match="PostgreSQL refuses: FATAL: no such role"):
        host.apply()


def test_every_service_that_mounts_a_secret_is_listed_as_its_reader() -> None:
    files = [Path(__file__).parents[3] / "compose" / each for each in ("compose.yaml", "monitoring.yaml")]
    documents = [yaml.safe_load(each.read_text()) for each in files]
    mounted: Mapping[str, set[str]] = {name: set() for each in documents for name in each["secrets"]}
    for service, settings in (item for each in documents for item in each["services"].items()):
        for name in settings.get("secrets", []):
            mounted[name].add(service)
    # The role of the database is altered instead of its server restarted, and Diun reads its files at each mail.
    assert {name: services - {"postgres", "diun"} for name, services in mounted.items()} == {
        name: set(readers) for name, readers in apply_secrets.READERS.items() if name != "restic-password"
    }
    assert apply_secrets.READERS["restic-password"] == ()  # only ops reads it
    assert set(apply_secrets.READERS) == set(store.PERMISSIONS)


@pytest.mark.parametrize("verifier", ["", "md5d41d8cd98f00b204e9800998ecf8427e", "SCRAM-SHA-256$x:y$z"])
def test_an_invalid_verifier_accepts_no_password(verifier: str) -> None:
    assert not apply_secrets.verifier_accepts(verifier, "")


def test_a_verifier_made_by_postgresql_accepts_its_password() -> None:
    assert apply_secrets.verifier_accepts(PENCIL, "pencil")
    assert not apply_secrets.verifier_accepts(PENCIL, "Pencil")
    assert not apply_secrets.verifier_accepts(PENCIL.replace("$4096:", "$4095:"), "pencil")


def test_gitea_restarts_for_the_secret_of_one_of_its_settings() -> None:
    services = [_running("gitea"), _running("diun")]
    written = {"setting-imap": NOW}
    read_by = {**apply_secrets.READERS, "setting-imap": ("gitea",)}
    assert apply_secrets.plan_restarts(written, services, (), read_by) == ("gitea",)
    assert apply_secrets.plan_restarts({}, services, ["setting-imap"], read_by) == ("gitea",)
    assert apply_secrets.plan_restarts({"setting-imap": NOW - timedelta(hours=1)}, services, (), read_by) == ()


def test_the_exporter_s_role_is_made_gets_new_passwords_and_goes_with_monitoring(host: Host) -> None:
    host.postgres.monitoring = ""
    host.apply()
    made = [each for each in host.postgres.statements if "ROLE monitoring" in each]
    assert made[0] == "CREATE ROLE monitoring LOGIN CONNECTION LIMIT 5 IN ROLE pg_monitor"
    assert apply_secrets.verifier_accepts(host.postgres.monitoring, "old-monitoring-password")
    without = fakes.site(monitoring={"enabled": False})
    report = apply_secrets.apply(without, host.world, directory=host.directory)  # type: ignore[arg-type]
    assert (host.postgres.monitoring, report.summary) == ("", "applied: role monitoring")


def test_other_readers_than_gitea_are_restarted_alone(host: Host) -> None:
    host.world.containers.found = (*host.world.containers.found, _running("postgres-exporter"))
    host.world.aws.secrets["test/monitoring-password"] = "new"
    assert host.apply().facts["restarted"] == ["postgres-exporter"]
    assert host.world.containers.restarted == ["postgres-exporter"]
