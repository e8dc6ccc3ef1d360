"""The watch sees every part of the site, and an alarm reaches the operator's mailbox and ends there."""

from __future__ import annotations

import json
import os
import shlex
from urllib.parse import quote

import requests
from testinfra.host import Host

from tests.support.deployed_site import DeployedSite, Ssh, ops, until

JOBS = frozenset(
    {
        "alertmanager", "blackbox", "blackbox-certificate", "blackbox-git", "blackbox-https", "blackbox-smtp",
        "blackbox-ssh", "gitea", "haproxy", "nginx", "node", "postgres", "prometheus",
    }
)  # fmt: skip
INBOX = os.environ.get("E2E_INBOX", "")
# The rule waits 15 s with the intervals of the local site.
RINGS_SECONDS = 120


def _query(ssh: Ssh, expression: str) -> list[tuple[dict[str, str], float]]:
    """Return the labels and values that Prometheus on the host has for an expression."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}"
    done = ssh(f"sudo docker exec gitea-suite-prometheus-1 wget -q -O - {shlex.quote(url)}")
    assert done.returncode == 0, done.stderr
    return [(each["metric"], float(each["value"][1])) for each in json.loads(done.stdout)["data"]["result"]]


def test_every_part_of_the_site_is_read_and_every_probe_succeeds(ssh: Ssh) -> None:
    def seen() -> dict[str, float]:
        return {labels["job"]: value for labels, value in _query(ssh, "up")}

    # Gitea is read once a minute.
    until(lambda: seen() == dict.fromkeys(JOBS, 1.0), "every job is up", 150)
    probes = {labels["job"]: value for labels, value in _query(ssh, "probe_success")}
    assert probes == dict.fromkeys((each for each in JOBS if each.startswith("blackbox-")), 1.0)
    assert _query(ssh, "pg_up")[0][1] == 1
    assert _query(ssh, "gitea_users")[0][1] >= 1
    assert _query(ssh, 'sum(haproxy_backend_http_responses_total{proxy="gitea",code="2xx"})')[0][1] > 0
    assert _query(ssh, "nginx_connections_accepted")[0][1] > 0
    # The root disk of the local site's host is a container's, which the exporter leaves out.
    assert _query(ssh, 'node_filesystem_avail_bytes{mountpoint="/srv/gitea"}')[0][1] > 0


def test_the_metrics_of_a_backup_follow_it_at_once(ssh: Ssh) -> None:
    taken = ops(ssh, "backup", "take")["identity"]

    def newest() -> str:
        (found,) = _query(ssh, "gitea_suite_backup_last_success_timestamp_seconds")
        done = ssh(f"date --utc --date @{int(found[1])} +%Y%m%dT%H%M%SZ")
        return done.stdout.strip()

    until(lambda: newest() == taken, "Prometheus knows the backup", 30)
    assert _query(ssh, "gitea_suite_backup_size_bytes")[0][1] > 0
    ssh("sudo ops health --json")
    until(lambda: len(_query(ssh, "gitea_suite_health_check == 1")) >= 10, "Prometheus knows the checks", 30)


def test_the_exporter_s_role_reads_statistics_and_nothing_of_gitea(host: Host) -> None:
    run = "docker exec gitea-suite-postgres-1 psql -U gitea -d gitea -tAc"
    roles = "select string_agg(b.rolname, ',') from pg_auth_members m join pg_roles b on b.oid = m.roleid join pg_roles r on r.oid = m.member"
    assert host.check_output(f"{run} \"{roles} where r.rolname = 'monitoring'\"") == "pg_monitor"
    allowed = "select has_table_privilege('monitoring', 'public.\\\"user\\\"', 'select')"
    assert host.check_output(f'{run} "{allowed}"') == "f"


def test_an_alarm_reaches_the_mailbox_and_its_end_too(site: DeployedSite, ssh: Ssh) -> None:
    contact, subject = site.document["contact"], "What nginx tells is not watched"

    def mails(state: str) -> list[str]:
        found = requests.get(INBOX, timeout=5).json()
        return [each["subject"] for each in found if f"[{state}]" in each["subject"] and subject in each["subject"]]

    assert contact
    if not INBOX:
        # A site in AWS has no mailbox that a test can read: Alertmanager tells what it delivered.
        before = _query(ssh, 'alertmanager_notifications_total{integration="email"}')[0][1]
    ssh("sudo docker stop gitea-suite-nginx-exporter-1")
    try:
        if INBOX:
            until(lambda: bool(mails("FIRING")), "the alarm is in the mailbox", RINGS_SECONDS)
        else:
            count = 'alertmanager_notifications_total{integration="email"}'
            until(lambda: _query(ssh, count)[0][1] > before, "the alarm was delivered", 600)
    finally:
        ssh("sudo docker start gitea-suite-nginx-exporter-1")
    if INBOX:
        until(lambda: bool(mails("RESOLVED")), "the end of the alarm is in the mailbox", RINGS_SECONDS)
