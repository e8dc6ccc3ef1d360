"""The stand-in for Docker Hub: a registry with the image set under upstream's names."""

from __future__ import annotations

from collections.abc import Mapping

import requests
from docker.models.containers import Container

from ground.container import RunContext, create, wait
from ops.errors import OpsError

# Shared by all runs, so that an image is compressed and pushed only once.
CACHE_VOLUME = "gitea-suite-registry"


def start(run_context: RunContext, image: str) -> str:
    """Start the registry and return its URL on the run's network."""
    volumes = {CACHE_VOLUME: {"bind": "/var/lib/registry", "mode": "rw"}}
    container = create(run_context, "registry", image, ports={"5000/tcp": ("127.0.0.1", None)}, volumes=volumes)
    url = f"http://{run_context.address('registry')}:5000"
    wait(container, lambda: requests.get(f"{url}/v2/", timeout=2).ok, 20)
    return url


def push(run_context: RunContext, references: Mapping[str, str]) -> None:
    """Push local images under the upstream names that they replace: ``{"postgres:18.6": "hermetic/postgres:..."}``."""
    # The engine uses plain HTTP on loopback only, so the push goes to the published port.
    published = _published(run_context.client.containers.get(run_context.name("registry")))
    for upstream, local in references.items():
        name, tag = upstream.rsplit(":", 1)
        repository = f"{published}/{name if '/' in name else f'library/{name}'}"
        run_context.client.images.get(local).tag(repository, tag)
        for line in run_context.client.api.push(repository, tag=tag, stream=True, decode=True):
            if "error" in line:
                raise OpsError(
                    f"pushing {upstream} failed: {line['error']}", f"run docker logs {run_context.name('registry')}"
                )
        run_context.client.images.remove(f"{repository}:{tag}", noprune=True)


def _published(container: Container) -> str:
    container.reload()
    return f"127.0.0.1:{container.attrs['NetworkSettings']['Ports']['5000/tcp'][0]['HostPort']}"
