"""The adapter for image registries: tags, digests and creation times of images (OCI distribution specification)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin

import requests

from ops.errors import OpsError, Unavailable

_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)
_DOCKER_HUB = "https://registry-1.docker.io"
_LATER = "run the command again in a few minutes"


class Registry:
    """A Docker Hub mirror, or Docker Hub itself where ``mirror`` is empty; ``patience`` is the time-out of a request in seconds."""

    def __init__(self, mirror: str = "", *, patience: float = 15.0) -> None:
        self._patience = patience
        self._base = (mirror or _DOCKER_HUB).rstrip("/")
        self._session = requests.Session()
        self._tokens: dict[str, str] = {}

    def digest(self, image: str) -> str:
        """Return the sha256:... digest of ``name:tag``; raises OpsError when the tag does not exist."""
        name, tag = image.rsplit(":", 1)
        repository = _repository(name)
        answer = self._ask("HEAD", f"{self._base}/v2/{repository}/manifests/{tag}", repository)
        if answer.status_code == 404:
            raise OpsError(f"image {image} is not in the registry {self._base}", "correct compose/images.env")
        if not answer.ok:
            raise Unavailable(f"registry {self._base} answers {answer.status_code} for {image}", _LATER)
        if not (digest := answer.headers.get("Docker-Content-Digest")):
            raise Unavailable(f"registry {self._base} gives no digest of {image}", _LATER)
        return digest

    def tags(self, name: str) -> tuple[str, ...]:
        """Return every tag of an image, in the registry's order; raises OpsError when the registry does not have the image."""
        repository = _repository(name)
        url = f"{self._base}/v2/{repository}/tags/list?n=1000"
        found: list[str] = []
        while url:
            answer = self._ask("GET", url, repository)
            if answer.status_code == 404:
                raise OpsError(f"image {name} is not in the registry {self._base}", "correct compose/images.env")
            found += self._document(answer, name).get("tags") or []
            following = answer.links.get("next", {}).get("url", "")
            url = urljoin(url, following) if following else ""
        return tuple(found)

    def made(self, image: str) -> datetime | None:
        """Return the creation time in the configuration of ``name:tag``, or None when it has none.

        In an index, the image for this suite's hosts (linux/amd64) counts, or else the first one.
        """
        name, tag = image.rsplit(":", 1)
        repository = _repository(name)
        manifest = self._read(f"{repository}/manifests/{tag}", repository)
        if manifest.get("manifests"):
            chosen = min(manifest["manifests"], key=lambda each: not _is_ours(each))
            manifest = self._read(f"{repository}/manifests/{chosen['digest']}", repository)
        if "config" not in manifest:
            return None
        created = self._read(f"{repository}/blobs/{manifest['config']['digest']}", repository).get("created")
        # Docker gives nanoseconds; a datetime holds microseconds.
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", created)) if created else None
        return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)

    def _read(self, path: str, repository: str) -> Any:
        return self._document(self._ask("GET", f"{self._base}/v2/{path}", repository), path)

    def _document(self, answer: requests.Response, subject: str) -> Any:
        if not answer.ok:
            raise Unavailable(f"registry {self._base} answers {answer.status_code} for {subject}", _LATER)
        try:
            return answer.json()
        except ValueError as error:
            raise Unavailable(f"registry {self._base} does not answer with JSON for {subject}", _LATER) from error

    def _ask(self, method: str, url: str, repository: str) -> requests.Response:
        headers = {"Accept": _MANIFESTS}
        try:
            if token := self._tokens.get(repository):
                headers["Authorization"] = f"Bearer {token}"
            answer = self._session.request(method, url, headers=headers, timeout=self._patience)
            if answer.status_code == 401:
                token = self._token(answer.headers.get("WWW-Authenticate", ""), repository)
                self._tokens[repository] = token
                answer = self._session.request(
                    method, url, headers=headers | {"Authorization": f"Bearer {token}"}, timeout=self._patience
                )
            return answer
        except requests.RequestException as error:
            raise Unavailable(
                f"registry {self._base} is out of reach: {error}", "check the network, then run the command again"
            ) from error

    def _token(self, challenge: str, repository: str) -> str:
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        scope = f"repository:{repository}:pull"
        query = {"service": asked.get("service", ""), "scope": scope}
        answer = self._session.get(asked.get("realm", self._base), params=query, timeout=self._patience)
        token = self._document(answer, scope).get("token")
        if not token:
            raise Unavailable(f"registry {self._base} gives no token for {scope}", _LATER)
        return str(token)


def _repository(name: str) -> str:
    return name if "/" in name else f"library/{name}"


def _is_ours(entry: Mapping[str, Any]) -> bool:
    platform = entry.get("platform", {})
    return (platform.get("os"), platform.get("architecture")) == ("linux", "amd64")
