"""`ops health` and the alerting rules agree: whatever a check finds, an alert rings for, and with the same limits."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup import records
from ops.config import monitoring_files
from ops.stack import health, secrets_in_use
from ops.world.containers import Service
from ops.world.https import Answer
from tests.support import alert_rules, fakes

RULES = {rule.name: rule for rule in alert_rules.rules(fakes.site())}
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

# Each check of `ops health`, with the alert that rings when it fails.
ALERT_OF = {
    "https": "SiteUnreachable",
    "certificate": "CertificateEnds",
    "git over ssh": "GitOverSshFails",
    "data disk": "DiskErrors",
    "room on the data disk": "DiskFillsUp",
    "room on the root disk": "DiskFillsUp",
    "WAL stream": "WalTooOld",
    "backup": "BackupTooOld",
    "verification of backups": "VerificationFailed",
    "drill": "DrillFailed",
    "secrets of Gitea": "HealthCheckFails",
    "settings of Gitea": "HealthCheckFails",
    "units": "HealthCheckFails",
    "container gitea": "GiteaDown",
    "container postgres": "PostgresDown",
    "container nginx": "SiteUnreachable",
    "container haproxy": "SiteUnreachable",
    "container door": "HealthCheckFails",
    "container diun": "HealthCheckFails",
    "container docker-socket-proxy": "HealthCheckFails",
    "container grafana": "HealthCheckFails",
    "container node-exporter": "NodeExporterGone",
    "container postgres-exporter": "ExporterGone",
    "container nginx-exporter": "ExporterGone",
    "container blackbox-exporter": "ExporterGone",
    # They cannot ring for themselves: the heartbeat stops.
    "container prometheus": "Watchdog",
    "container alertmanager": "Watchdog",
}


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of all checks of a site with monitoring, with a btrfs disk and a Gitea that was started once."""
    for name in ("DATA", "SECRETS", "STREAM"):
        monkeypatch.setattr(health, name, tmp_path / name)
    monkeypatch.setattr(health, "BACKUP_DIRECTORY", str(tmp_path))
    ini = tmp_path / "DATA" / secrets_in_use.INI
    ini.parent.mkdir(parents=True)
    ini.write_text("")
    services = sorted({*health.EXPECTED_SERVICES, *monitoring_files.SERVICES})
    world: Any = fakes.FakeWorld(
        https=fakes.FakeHttps(lambda *_: Answer(200, {}, b"", NOW + timedelta(days=60))),
        containers=fakes.FakeContainers(found=tuple(Service(each, "", "running", "healthy", 0) for each in services)),
    )
    world.btrfs = fakes.FakeBtrfs(())
    return {each["name"] for each in health.health(fakes.site(), world).facts["probes"]}


def test_an_alert_rings_for_every_check_of_ops_health(checks: set[str]) -> None:
    assert checks == set(ALERT_OF)
    assert set(ALERT_OF.values()) <= set(RULES)


def test_the_alert_for_the_checks_without_one_of_their_own_names_exactly_these() -> None:
    (pattern,) = re.findall(r'check=~"([^"]+)"', RULES["HealthCheckFails"].expression)
    assert {check for check in ALERT_OF if re.fullmatch(pattern, check)} == {
        check for check, alert in ALERT_OF.items() if alert == "HealthCheckFails"
    }


def test_the_alerts_have_the_limits_of_the_checks() -> None:
    monitoring = fakes.site().monitoring
    assert monitoring.disk_free_percent == health.MIN_FREE_SHARE * 100
    assert f"{health.MIN_FREE_BYTES // 2**30} * 1024 * 1024 * 1024" in RULES["DiskFillsUp"].expression
    assert timedelta(days=monitoring.certificate_days) == health.CERTIFICATE_LEFT
    for name, limit in {
        "VerificationTooOld": records.VERIFIED_WITHIN,
        "PruneTooOld": records.PRUNED_WITHIN,
    }.items():
        assert f"> {limit.days} * 86400" in RULES[name].expression
    assert f"+ {records.DRILLED_LATER.total_seconds():.0f}" in RULES["DrillTooOld"].expression
