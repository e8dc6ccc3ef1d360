"""One container of the test environment: start it with the run's label, and wait until it is ready."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import docker
from docker.models.containers import Container

from ops.errors import Unavailable

RUN_LABEL = "gitea-suite.run"

# Fixed, so that certificates and the run's site file can contain them before any container starts.
_ADDRESSES = {"registry": 10, "aws": 11, "metadata": 12, "acme": 13, "dns": 14, "mail": 15, "host": 20}


@dataclass(frozen=True)
class RunContext:
    """What all containers of one run share: the engine, the run's network, and the run's name."""

    client: docker.DockerClient
    network: str
    subnet: str
    run: str

    def name(self, alias: str) -> str:
        """Return the name of the run's container or volume, unique in the engine."""
        return f"{self.run}-{alias}"

    def address(self, alias: str) -> str:
        """Return the IPv4 address of the container called ``alias`` on the run's network, also before it exists."""
        return str(ip_network(self.subnet)[_ADDRESSES[alias]])


def create(
    run_context: RunContext,
    alias: str,
    image: str,
    *,
    files: Mapping[str, bytes] | None = None,
    command: Sequence[str] | None = None,
    ports: Mapping[str, Any] | None = None,
    volumes: Mapping[str, Mapping[str, str]] | None = None,
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> Container:
    """Start a container with the DNS name ``alias`` on the run's network; ``files`` (path to content) are copied in before."""
    endpoint = run_context.client.api.create_endpoint_config(aliases=[alias], ipv4_address=run_context.address(alias))
    container = run_context.client.containers.create(
        image,
        list(command) if command else None,
        name=run_context.name(alias),
        hostname=alias,
        labels={RUN_LABEL: run_context.run},
        environment=dict(environment or {}),
        ports=dict(ports or {}),
        volumes=dict(volumes or {}),
        network=run_context.network,
        networking_config={run_context.network: endpoint},
        **more,
    )
    for path, content in (files or {}).items():
        container.put_archive("/", _archive(path, content))
    container.start()
    return container


def wait(container: Container, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until ``ready`` returns True.

    Raises Unavailable with the container's last log lines when it stops or takes longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _quietly(ready):
            return
        container.reload()
        if container.status in ("exited", "dead"):
            break
        time.sleep(0.2)
    log = container.logs(tail=20).decode("utf-8", "replace")
    raise Unavailable(
        f"{container.name} did not start ({container.status}):\n{log}", f"run docker logs {container.name}"
    )


def _quietly(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except OSError:
        return False


def _archive(path: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(path.lstrip("/"))
        member.size, member.mode = len(content), 0o644
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
