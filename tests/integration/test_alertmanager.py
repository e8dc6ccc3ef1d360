"""Alertmanager itself, with a site's file: what it mails, and which alert silences which."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import pytest
import requests

from ground.container import RunContext
from ground.image_set import ImageSet, pinned
from ground.mail import Mailbox
from ops.config import monitoring_files
from tests.support import alert_rules, fakes
from tests.support.alert_rules import ROOT
from tests.support.deployed_site import until
from tests.support.site_alerts import names_in

RULES = {rule.name: rule for rule in alert_rules.rules(fakes.site())}
# The labels that the alerts of a job have besides their rule's own.
JOBS: Mapping[str, str] = {"ExporterGone": "postgres"}


@pytest.fixture(scope="module")
def alertmanager(
    built: ImageSet,
    docker_client: docker.DockerClient,
    run_context: RunContext,
    mailbox: Mailbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of an Alertmanager with the file of a site, whose mail server is the mail sink."""
    mail = {"sender": "gitea@example.org", "smtp_host": mailbox.smtp_host, "smtp_port": mailbox.smtp_port}
    aws = {"region": "eu-central-1", "endpoint_url": "http://127.0.0.1:9"}
    site = fakes.site(aws=aws, mail=mail, monitoring={"interval_seconds": 1, "group_wait_seconds": 1})
    made = monitoring_files.files(site, ROOT / "compose")["alertmanager/alertmanager.yml"]
    folder = tmp_path_factory.mktemp("alertmanager")
    folder.chmod(0o755)
    # A key's id, and a password of the form that SES derives.
    texts = {
        "alertmanager.yml": made.replace("USERNAME", "A" * 20),
        "authority.pem": mailbox.authority,
        "password": base64.b64encode(bytes([4, *range(32)])).decode(),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    container = docker_client.containers.run(
        built.local(pinned()["ALERTMANAGER_IMAGE"]),
        ["--config.file=/made/alertmanager.yml", "--storage.path=/tmp/data", "--cluster.listen-address="],
        entrypoint="/bin/alertmanager",
        detach=True,
        network=run_context.network,
        environment={"SSL_CERT_FILE": "/made/authority.pem"},
        volumes={
            str(folder): {"bind": "/made", "mode": "ro"},
            str(folder / "password"): {"bind": "/run/secrets/smtp-password", "mode": "ro"},
        },
        tmpfs={"/tmp": ""},
    )
    try:
        container.reload()
        (network,) = container.attrs["NetworkSettings"]["Networks"].values()
        url = f"http://{network['IPAddress']}:9093"
        _await_ready(url)
        yield url
    finally:
        container.remove(force=True)


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if requests.get(f"{url}/-/ready", timeout=2).ok:
                return
        except requests.RequestException:
            assert time.monotonic() < deadline, "Alertmanager does not start"
        time.sleep(0.2)


def _labels(name: str) -> dict[str, str]:
    job = {"job": JOBS[name]} if name in JOBS else {}
    return {**RULES[name].labels, **job, "alertname": name}


def _states(url: str, *names: str) -> dict[str, str]:
    """Let these alerts ring, and return the state of each: active or suppressed. They end before the next call."""
    now = datetime.now(UTC)
    ringing: list[dict[str, Any]] = [
        {"labels": _labels(name), "startsAt": now.isoformat(), "endsAt": (now + timedelta(minutes=5)).isoformat()}
        for name in names
    ]
    assert requests.post(f"{url}/api/v2/alerts", json=ringing, timeout=5).ok
    try:
        deadline = time.monotonic() + 10
        while len(found := requests.get(f"{url}/api/v2/alerts", timeout=5).json()) < len(names):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        # A cause counts a moment after it arrives.
        time.sleep(0.5)
        found = requests.get(f"{url}/api/v2/alerts", timeout=5).json()
        return {each["labels"]["alertname"]: each["status"]["state"] for each in found}
    finally:
        over = [{**each, "endsAt": datetime.now(UTC).isoformat()} for each in ringing]
        assert requests.post(f"{url}/api/v2/alerts", json=over, timeout=5).ok
        _await_silence(url)


def _await_silence(url: str) -> None:
    deadline = time.monotonic() + 10
    while requests.get(f"{url}/api/v2/alerts", timeout=5).json():
        assert time.monotonic() < deadline, "an alert does not end"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("cause", "silent", "loud"),
    [
        ("PostgresDown", ["DatabaseHangs", "GiteaDown", "SiteUnreachable", "GitOverHttpsFails"], ["DiskFillsUp"]),
        ("DatabaseHangs", ["GiteaDown", "SiteUnreachable", "GitOverSshFails", "ExporterGone"], ["CertificateEnds"]),
        ("GiteaDown", ["SiteUnreachable", "GitOverHttpsFails", "GitOverSshFails"], ["ExporterGone", "BackupTooOld"]),
        ("SiteUnreachable", ["GitOverHttpsFails", "SlowAnswers"], ["GitOverSshFails", "ExporterGone"]),
        ("CertificateRefused", ["SiteUnreachable", "GitOverHttpsFails"], ["GitOverSshFails", "CertificateEnds"]),
        ("NodeExporterGone", ["BackupUnknown", "DiskFillsUp"], ["SiteUnreachable"]),
        (
            "Maintenance",
            ["GiteaDown", "SiteUnreachable", "PostgresDown"],
            ["DiskFillsUp", "CertificateEnds", "DrillFailed"],
        ),
    ],
)
def test_a_cause_silences_what_follows_from_it_and_nothing_else(
    alertmanager: str, cause: str, silent: list[str], loud: list[str]
) -> None:
    states = _states(alertmanager, cause, *silent, *loud)
    assert {name for name, state in states.items() if state == "suppressed"} == set(silent)


def test_without_its_cause_each_rings(alertmanager: str) -> None:
    assert set(_states(alertmanager, "SlowAnswers", "ExporterGone", "DiskFillsUp").values()) == {"active"}


def test_an_alert_and_its_end_are_mailed_with_what_users_notice(alertmanager: str, mailbox: Mailbox) -> None:
    def mails(state: str) -> list[dict[str, Any]]:
        found = requests.get(mailbox.inbox, timeout=5).json()
        return [each for each in found if "MailServerUnreachable" in names_in(each["text"], state)]

    now = datetime.now(UTC)
    rule = RULES["MailServerUnreachable"]
    alert = {"labels": _labels(rule.name), "annotations": dict(rule.annotations), "startsAt": now.isoformat()}
    ringing = {**alert, "endsAt": (now + timedelta(minutes=5)).isoformat()}
    assert requests.post(f"{alertmanager}/api/v2/alerts", json=[ringing], timeout=5).ok
    until(lambda: len(mails("firing")) == 1, "the alert is mailed", 20)
    assert mails("resolved") == []
    (mail,) = mails("firing")
    assert rule.annotations["summary"] in mail["subject"]
    assert rule.annotations["runbook_url"] in mail["text"]
    over = {**alert, "endsAt": datetime.now(UTC).isoformat()}
    assert requests.post(f"{alertmanager}/api/v2/alerts", json=[over], timeout=5).ok
    until(lambda: len(mails("resolved")) == 1, "its end is mailed", 20)
    assert "RESOLVED" in mails("resolved")[0]["subject"]
