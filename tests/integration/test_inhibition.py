"""Alertmanager itself, with a site's file: a cause silences what follows from it, and work on purpose what it causes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import pytest
import requests

from ground.image_set import ImageSet, pinned
from ops.config import monitoring_files
from tests.support import alert_rules, fakes
from tests.support.alert_rules import ROOT

RULES = {rule.name: rule for rule in alert_rules.rules(fakes.site())}
# The labels that the alerts of a job have besides their rule's own.
JOBS: Mapping[str, str] = {"ExporterGone": "postgres"}


@pytest.fixture(scope="module")
def alertmanager(
    built: ImageSet, docker_client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of an Alertmanager with the file of a site."""
    folder = tmp_path_factory.mktemp("alertmanager")
    folder.chmod(0o755)
    file = folder / "alertmanager.yml"
    file.write_text(monitoring_files.files(fakes.site(), ROOT / "compose")["alertmanager/alertmanager.yml"])
    file.chmod(0o644)
    argv = ["--config.file=/made/alertmanager.yml", "--storage.path=/tmp/data", "--cluster.listen-address="]
    image = built.local(pinned()["ALERTMANAGER_IMAGE"])
    container = docker_client.containers.run(
        image, argv, entrypoint="/bin/alertmanager", detach=True, volumes={str(folder): {"bind": "/made", "mode": "ro"}},
        tmpfs={"/tmp": ""},
    )  # fmt: skip
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
