"""The stand-in for Docker Hub: a registry with the image set under upstream's names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import docker
import requests
from docker.errors import APIError
from docker.models.containers import Container
from docker.models.volumes import Volume

from ground.container import RunContext, create, wait
from ops.errors import OpsError

CACHE_PREFIX = "gitea-suite-registry"
_KEPT_CACHES = 3


def start(run_context: RunContext, image: str, references: Mapping[str, str]) -> str:
    """Start the registry with local images under the upstream names that they replace; returns its URL on the run's network.

    ``references`` is like ``{"postgres:18.6": "hermetic/postgres:..."}``.
    """
    cache = cache_volume(references)
    volumes = {cache: {"bind": "/var/lib/registry", "mode": "rw"}}
    container = create(run_context, "registry", image, ports={"5000/tcp": ("127.0.0.1", None)}, volumes=volumes)
    url = f"http://{run_context.address('registry')}:5000"
    wait(container, lambda: requests.get(f"{url}/v2/", timeout=2).ok, 20)
    push(run_context, references)
    _remove_superseded(run_context.client, cache)
    return url


def cache_volume(references: Mapping[str, str]) -> str:
    """Return the name of the volume that keeps pushed images between runs, so that each is compressed and pushed only once.

    Runs with the same images share it. Those of another work tree have another one: in a common one, the last run would set
    the tags of all.
    """
    key = hashlib.sha256(repr(sorted(references.items())).encode()).hexdigest()[:12]
    return f"{CACHE_PREFIX}-{key}"


def superseded(volumes: Iterable[Volume], current: str) -> list[Volume]:
    """Return the caches to remove: all but ``current`` and the newest ones."""
    caches = [each for each in volumes if each.name.startswith(CACHE_PREFIX) and each.name != current]
    return sorted(caches, key=lambda each: str(each.attrs["CreatedAt"]), reverse=True)[_KEPT_CACHES - 1 :]


def _remove_superseded(client: docker.DockerClient, current: str) -> None:
    for volume in superseded(client.volumes.list(filters={"name": CACHE_PREFIX}), current):
        try:
            volume.remove()
        except APIError:
            # Another run uses it, or has just removed it.
            continue


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
