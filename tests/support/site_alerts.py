"""A deployed site's alerts, as they arrive: in the mailbox, at a webhook, at a heartbeat, and in Prometheus."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import requests

from ops.config import monitoring_files
from ops.config.load import site_from
from ops.config.paths import COMPOSE_DIRECTORY
from tests.support.alert_faults import PREFIX
from tests.support.alert_rules import ROOT
from tests.support.deployed_site import DeployedSite, Ssh, until

# Only the mail server of the test environment has an inbox. Elsewhere the webhook stands in for the mailbox.
INBOX = os.environ.get("E2E_INBOX", "")
_RECEIVER = "alert-receiver"
_LISTENER = """import http.server, json
class Page(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(json.dumps([self.path, json.loads(body)]), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
"""
QUICK: Mapping[str, Any] = {
    "interval_seconds": 2,
    "group_wait_seconds": 1,
    "latency_seconds": 2,
    "webhook_url": f"http://{_RECEIVER}:8000/webhook",
    "heartbeat_url": f"http://{_RECEIVER}:8000/heartbeat",
}
_STATES = {"Firing": "firing", "Resolved": "resolved"}


@dataclass(frozen=True)
class Alerts:
    """The alerts of a site whose watch is quick."""

    site: DeployedSite
    ssh: Ssh

    def run(self, script: str) -> None:
        """Run a script in root's shell on the host."""
        done = self.ssh(f"sudo sh -c {shlex.quote(script)}")
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"

    def position(self) -> tuple[int, int]:
        """The number of mails and of requests until now."""
        return len(_mails()), len(self._requests())

    def arrived(self, since: tuple[int, int], state: str, channel: str) -> set[str]:
        """Return the names of the alerts that a channel has told as ``firing`` or ``resolved`` since a position."""
        if channel == "mail" and INBOX:
            return {name for mail in _mails()[since[0] :] for name in names_in(mail["text"], state)}
        told = [body for path, body in self._requests()[since[1] :] if path == "/webhook"]
        return {alert["labels"]["alertname"] for body in told for alert in body["alerts"] if alert["status"] == state}

    def ringing(self) -> set[str]:
        """Return the names of the alerts that ring in Prometheus."""
        url = "http://127.0.0.1:9090/api/v1/alerts"
        done = self.ssh(f"sudo docker exec {PREFIX}prometheus-1 wget -q -O - {url}")
        if done.returncode:
            return set()
        alerts = json.loads(done.stdout)["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def heartbeats(self) -> int:
        """Return how many heartbeats have arrived."""
        return sum(path == "/heartbeat" for path, _ in self._requests())

    def _requests(self) -> list[tuple[str, dict[str, Any]]]:
        lines = self.ssh(f"sudo docker logs {_RECEIVER}").stdout.splitlines()
        return [tuple(json.loads(line)) for line in lines]


def _mails() -> list[dict[str, Any]]:
    return list(requests.get(INBOX, timeout=10).json()) if INBOX else []


def names_in(text: str, state: str) -> set[str]:
    """Return the names of the alerts that a mail of Alertmanager lists as ``firing`` or ``resolved``."""
    found: set[str] = set()
    for part in re.split(r"(?=\[\d+\] (?:Firing|Resolved))", text):
        heading = re.match(r"\[\d+\] (Firing|Resolved)", part)
        if heading and _STATES[heading[1]] == state:
            found |= set(re.findall(r"alertname = (\w+)", part))
    return found


@contextmanager
def quick_watch(site: DeployedSite, ssh: Ssh) -> Iterator[Alerts]:
    """Give the site's watch short intervals, a webhook and a heartbeat for the length of the block."""
    alerts = Alerts(site, ssh)
    usual = site_from(site.document)
    quick = replace(usual, monitoring=replace(usual.monitoring, **QUICK))
    alerts.run(
        f"docker rm --force {_RECEIVER} >/dev/null 2>&1; docker run --detach --name {_RECEIVER} --network "
        f"gitea-suite_outside --entrypoint python3 $(docker images --quiet gitea-suite/ops | head -1) "
        f"-c {shlex.quote(_LISTENER)}"
    )
    try:
        _watch(alerts, monitoring_files.files(quick, ROOT / "compose"), every=QUICK["interval_seconds"])
        until(lambda: alerts.heartbeats() > 0, "the heartbeat arrives", 60)
        yield alerts
    finally:
        _watch(alerts, monitoring_files.files(usual, ROOT / "compose"))
        alerts.run(f"docker rm --force {_RECEIVER}")


def _watch(alerts: Alerts, files: Mapping[str, str], every: int = 0) -> None:
    """Write the files of the watch into those that the containers have mounted, and restart its two programs."""
    for path, text in files.items():
        quick = _gitea_as_often(text, every) if every and path == "prometheus/prometheus.yml" else text
        encoded = base64.b64encode(quick.encode()).decode()
        alerts.run(f"echo {encoded} | base64 --decode >{COMPOSE_DIRECTORY}/{path}")
    alerts.run(f"docker restart {PREFIX}prometheus-1 {PREFIX}alertmanager-1 >/dev/null")


def _gitea_as_often(text: str, seconds: int) -> str:
    """Gitea is read once a minute on a site, which would lengthen each of its faults."""
    comment, _, body = text.partition("\n")
    document = json.loads(body)
    for job in document["scrape_configs"]:
        if job["job_name"] == "gitea":
            job["scrape_interval"] = f"{seconds}s"
    return f"{comment}\n{json.dumps(document, indent=1)}\n"


def wait_for(condition: Any, seconds: float, what: str) -> float:
    """Wait until ``condition()`` is true, and return the seconds that it took."""
    began = time.monotonic()
    until(condition, what, seconds)
    return time.monotonic() - began
