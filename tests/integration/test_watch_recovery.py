"""Prometheus comes back by itself from a torn log and from a full disk; Alertmanager delivers past a failing webhook."""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from docker.models.containers import Container

from ground.image_set import ImageSet, pinned
from ops.config import monitoring_files
from tests.support import fakes

ARGV = ["--config.file=/made/prometheus.yml", "--storage.tsdb.path=/prometheus"]
OWN = {
    "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
    "scrape_configs": [{"job_name": "prometheus", "static_configs": [{"targets": ["localhost:9090"]}]}],
}
DISK_BYTES = 24 * 1024 * 1024


def _until(what: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not _quietly(holds):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.3)


def _quietly(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except requests.RequestException:
        return False


def _url(container: Container, port: int) -> str:
    container.reload()
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    return f"http://{network['IPAddress']}:{port}"


def _value(container: Container, expression: str) -> float | None:
    found = requests.get(f"{_url(container, 9090)}/api/v1/query", params={"query": expression}, timeout=5).json()
    values = found["data"]["result"]
    return float(values[0]["value"][1]) if values else None


def _ready(container: Container) -> bool:
    return requests.get(f"{_url(container, 9090)}/-/ready", timeout=2).ok


@pytest.fixture
def made(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    (tmp_path / "prometheus.yml").write_text(json.dumps(OWN))
    (tmp_path / "prometheus.yml").chmod(0o644)
    return tmp_path


def _prometheus(built: ImageSet, client: docker.DockerClient, made: Path, data: str) -> Container:
    """Start Prometheus with the restart policy of the stack; ``data`` is a folder or a volume."""
    places = {str(made): {"bind": "/made", "mode": "ro"}, data: {"bind": "/prometheus", "mode": "rw"}}
    return client.containers.run(
        built.local(pinned()["PROMETHEUS_IMAGE"]), ARGV, entrypoint="/bin/prometheus", user="65534:65534", detach=True,
        read_only=True, restart_policy={"Name": "on-failure"}, volumes=places,
    )  # fmt: skip


def test_a_torn_log_of_prometheus_is_repaired_at_its_start_and_the_loss_is_counted(
    built: ImageSet, docker_client: docker.DockerClient, made: Path
) -> None:
    data = made / "data"
    data.mkdir()
    data.chmod(0o777)
    container = _prometheus(built, docker_client, made, str(data))
    try:
        _until("five samples are there", lambda: (_value(container, "count_over_time(up[5m])") or 0) >= 5)
        container.kill("SIGKILL")
        segment = max((data / "wal").glob("[0-9]*"))
        whole = segment.read_bytes()
        used = len(whole.rstrip(b"\0"))
        assert used > 2048
        # A page that a power cut left half written, with the rest of the log behind it.
        middle = used * 3 // 4
        segment.write_bytes(whole[:middle] + b"\xff" * 512 + whole[middle + 512 :])
        container.start()
        _until("Prometheus is ready", lambda: _ready(container))
        _until("the loss is counted", lambda: (_value(container, "prometheus_tsdb_wal_corruptions_total") or 0) >= 1)
        _until("new samples are there", lambda: (_value(container, "count_over_time(up[3s])") or 0) >= 2)
    finally:
        container.remove(force=True)


def test_prometheus_goes_on_by_itself_after_its_disk_was_full(
    built: ImageSet, docker_client: docker.DockerClient, made: Path
) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={DISK_BYTES},mode=0777"}
    volume = docker_client.volumes.create(driver="local", driver_opts=options)
    image = built.local(pinned()["PROMETHEUS_IMAGE"])
    disk = {volume.name: {"bind": "/prometheus", "mode": "rw"}}
    # Holds the disk, too: a tmpfs ends with its last container.
    other = docker_client.containers.run(image, ["600"], entrypoint="sleep", detach=True, user="0", volumes=disk)
    container = _prometheus(built, docker_client, made, volume.name)
    try:
        _until("samples are there", lambda: (_value(container, "count_over_time(up[5m])") or 0) >= 3)
        other.exec_run(["sh", "-c", "cat /dev/zero >/prometheus/other"])
        assert other.exec_run(["sh", "-c", "echo x >/prometheus/more"]).exit_code != 0
        _until("no sample is stored", lambda: _value(container, "count_over_time(up[3s])") is None)
        # A start on the full disk fails, too, and is repeated.
        container.restart(timeout=5)
        time.sleep(3)
        assert other.exec_run(["rm", "/prometheus/other"]).exit_code == 0
        _until("samples are there again", lambda: (_value(container, "count_over_time(up[3s])") or 0) >= 2, 120)
    finally:
        container.remove(force=True)
        other.remove(force=True)
        volume.remove()


class _Sink(BaseHTTPRequestHandler):
    """Answers 500 to the first request for /webhook, and notes every request."""

    seen: list[tuple[str, int, str]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        first = not any(path == self.path for path, _, _ in self.seen)
        code = 500 if first and self.path == "/webhook" else 200
        for alert in body["alerts"]:
            self.seen.append((self.path, code, f"{alert['status']} {alert['labels']['alertname']}"))
        self.send_response(code)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def sink(docker_client: docker.DockerClient) -> Iterator[tuple[str, list[tuple[str, int, str]]]]:
    """The URL of an HTTP server that containers reach, and its requests: path, code of the answer, state and name of the alert."""
    place = docker_client.networks.get("bridge").attrs["IPAM"]["Config"][0]
    # An engine that chose the address itself does not name it: it is the network's first.
    gateway = place.get("Gateway") or str(ipaddress.ip_network(place["Subnet"])[1])
    seen: list[tuple[str, int, str]] = []
    server = ThreadingHTTPServer((gateway, 0), type("Sink", (_Sink,), {"seen": seen}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{gateway}:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()


def test_an_alarm_and_its_end_pass_a_webhook_that_first_fails_and_the_heartbeat_goes_on(
    built: ImageSet,
    docker_client: docker.DockerClient,
    sink: tuple[str, list[tuple[str, int, str]]],
    tmp_path: Path,
) -> None:
    url, seen = sink
    where = {"webhook_url": f"{url}/webhook", "heartbeat_url": f"{url}/heartbeat"}
    site = fakes.site(monitoring={**where, "interval_seconds": 2, "group_wait_seconds": 1})
    tmp_path.chmod(0o755)
    file = tmp_path / "alertmanager.yml"
    root = Path(__file__).parents[2]
    file.write_text(monitoring_files.files(site, root / "compose")["alertmanager/alertmanager.yml"])
    file.chmod(0o644)
    container = docker_client.containers.run(
        built.local(pinned()["ALERTMANAGER_IMAGE"]),
        ["--config.file=/made/alertmanager.yml", "--storage.path=/tmp/data", "--cluster.listen-address="],
        entrypoint="/bin/alertmanager", detach=True, tmpfs={"/tmp": ""},
        volumes={str(tmp_path): {"bind": "/made", "mode": "ro"}},
    )  # fmt: skip
    try:
        _until("Alertmanager is ready", lambda: requests.get(f"{_url(container, 9093)}/-/ready", timeout=2).ok)
        now = datetime.now(UTC)

        def post(name: str, severity: str, ends: datetime) -> None:
            labels = {"alertname": name, "severity": severity, "area": "web"}
            alert = {
                "labels": labels,
                "annotations": {"summary": name},
                "startsAt": now.isoformat(),
                "endsAt": ends.isoformat(),
            }
            assert requests.post(f"{_url(container, 9093)}/api/v2/alerts", json=[alert], timeout=5).ok

        later = now + timedelta(minutes=10)
        post("Watchdog", "none", later)
        post("Broken", "page", later)
        _until("the webhook has the alarm", lambda: ("/webhook", 200, "firing Broken") in seen)
        assert seen.index(("/webhook", 500, "firing Broken")) < seen.index(("/webhook", 200, "firing Broken"))
        post("Broken", "page", datetime.now(UTC))
        _until("the webhook has its end", lambda: ("/webhook", 200, "resolved Broken") in seen)
        _until("the heartbeat goes on", lambda: seen.count(("/heartbeat", 200, "firing Watchdog")) >= 3)
        assert {path for path, _, what in seen if what.endswith("Watchdog")} == {"/heartbeat"}
    finally:
        container.remove(force=True)
