"""The host as its operator uses it and as an attacker sees it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from testinfra.host import Host

from ops.config import monitoring_files
from tests.support.deployed_site import DeployedSite

_SERVICE = "com.docker.compose.service"
SERVICES = (
    "diun", "docker-socket-proxy", "door", "gitea", "haproxy", "nginx", "postgres", *monitoring_files.SERVICES,
)  # fmt: skip


def test_ops_health_on_the_host_is_green(host: Host) -> None:
    done = host.run("ops health --json")
    document = json.loads(done.stdout)
    assert done.rc == 0, document
    assert {f"container {name}" for name in SERVICES} <= {probe["name"] for probe in document["probes"]}


def test_every_container_runs_an_image_pinned_by_digest(host: Host) -> None:
    for name in SERVICES:
        # By its label: each replacement of nginx has another container number.
        of = f"docker ps --quiet --filter label=com.docker.compose.project=gitea-suite --filter label={_SERVICE}={name}"
        image = host.check_output(f"docker inspect --format '{{{{.Config.Image}}}}' $({of})")
        assert "@sha256:" in image, image


def test_the_ops_image_on_the_host_is_the_one_built_on_this_machine(host: Host) -> None:
    reference = host.check_output("docker image ls --format '{{.Repository}}:{{.Tag}}' gitea-suite/ops")
    identity = ["docker", "image", "inspect", "--format", "{{.Id}}", reference]
    local = subprocess.run(identity, capture_output=True, text=True, check=True).stdout.strip()
    assert host.check_output(" ".join([*identity[:4], "'{{.Id}}'", reference])) == local


def test_only_the_site_s_own_ports_are_open(site: DeployedSite) -> None:
    for port in (80, 443, site.ssh_port):
        socket.create_connection((site.address, port), timeout=5).close()
    with ThreadPoolExecutor() as pool:
        assert not any(
            pool.map(lambda port: _answers(site.address, port), (2375, 3000, 5432, 8080, 8405, 9090, 9093, 9100))
        )


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except (ConnectionRefusedError, TimeoutError):
        return False
    return True


def test_secrets_are_in_memory_and_readable_only_by_their_service(host: Host) -> None:
    assert host.check_output("stat --file-system --format %T /run/gitea-suite/secrets") == "tmpfs"
    found = host.check_output("find /run/gitea-suite/secrets -type f -printf '%P %m\\n'").splitlines()
    modes = dict(line.split() for line in found)
    assert {"database-password", "gitea-secret-key", "restic-password", "smtp-password"} <= set(modes)
    assert set(modes.values()) <= {"400", "440"}


def test_certificate_renewal_that_is_not_due_changes_nothing(host: Host) -> None:
    assert json.loads(host.check_output("ops certs renew --json"))["changed"] is False


def test_the_administrator_is_made_only_once(host: Host) -> None:
    assert json.loads(host.check_output("ops accounts ensure-admin --json"))["changed"] is False


def test_timers_are_active_and_notify_the_operator_when_their_service_fails(host: Host) -> None:
    names = ("backup", "backup-status", "certificates", "drill", "health", "update", "verification")
    timers = " ".join(f"gitea-suite-{name}.timer" for name in names)
    assert set(host.check_output(f"systemctl is-active {timers}").split()) == {"active"}
    assert set(host.check_output(f"systemctl is-enabled {timers}").split()) == {"enabled"}
    for name in names:
        unit = host.check_output("systemctl show --property OnFailure --value gitea-suite-%s.service", name)
        assert unit == f"gitea-suite-notify@gitea-suite-{name}.service.service"


def test_the_wal_stream_runs_and_the_replication_slot_is_limited(host: Host) -> None:
    stream = host.service("gitea-suite-wal")
    assert stream.is_running
    assert stream.is_enabled
    limit = 'docker exec gitea-suite-postgres-1 psql --username=gitea --tuples-only --no-align --command="SHOW max_slot_wal_keep_size"'
    assert host.check_output(limit) == "4GB"


def test_the_host_s_own_firewall_and_updates_are_running(host: Host) -> None:
    for unit in ("gitea-suite-firewall", "fail2ban", "unattended-upgrades"):
        assert host.service(unit).is_running, unit
        assert host.service(unit).is_enabled, unit
    assert "policy drop" in host.check_output("nft list chain inet gitea_suite input")


def test_database_and_repositories_are_on_their_own_subvolumes_for_snapshots(host: Host) -> None:
    listed = host.check_output("btrfs subvolume list /srv/gitea")
    assert {line.split()[-1] for line in listed.splitlines()} >= {"gitea", "postgresql"}


def test_ops_health_from_outside_is_green_and_reports_the_certificate_s_expiry(site: DeployedSite) -> None:
    argv = [
        sys.executable,
        "-m",
        "ops",
        "health",
        "--site",
        os.environ["E2E_SITE"],
        "--address",
        site.address,
        "--json",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert done.returncode == 0, document
    assert any(probe["name"] == "certificate" and probe["seen"].startswith("ends ") for probe in document["probes"])
