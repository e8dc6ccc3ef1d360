"""The door to image registries: which digest a tag has (OCI distribution specification, section "Pull")."""

from __future__ import annotations

import re

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


class Registry:
    """Asks a Docker Hub mirror, or Docker Hub itself where ``mirror`` is empty."""

    def __init__(self, mirror: str = "") -> None:
        self._base = (mirror or _DOCKER_HUB).rstrip("/")
        self._session = requests.Session()

    def digest(self, image: str) -> str:
        """Return the sha256:... digest of ``name:tag``; raises OpsError when there is no such tag."""
        name, tag = image.rsplit(":", 1)
        repository = name if "/" in name else f"library/{name}"
        answer = self._head(f"{self._base}/v2/{repository}/manifests/{tag}", repository)
        if answer.status_code == 404:
            raise OpsError(f"image {image} is not in the registry {self._base}", "mend compose/images.env")
        if not answer.ok:
            raise Unavailable(f"registry {self._base} answers {answer.status_code} for {image}", "try again later")
        return answer.headers["Docker-Content-Digest"]

    def _head(self, url: str, repository: str) -> requests.Response:
        try:
            answer = self._session.head(url, headers={"Accept": _MANIFESTS}, timeout=15)
            if answer.status_code == 401:
                token = self._token(answer.headers.get("WWW-Authenticate", ""), repository)
                headers = {"Accept": _MANIFESTS, "Authorization": f"Bearer {token}"}
                answer = self._session.head(url, headers=headers, timeout=15)
            return answer
        except requests.RequestException as error:
            raise Unavailable(
                f"registry {self._base} is out of reach: {error}", "check the network and retry"
            ) from error

    def _token(self, challenge: str, repository: str) -> str:
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        scope = f"repository:{repository}:pull"
        query = {"service": asked.get("service", ""), "scope": scope}
        return str(self._session.get(asked["realm"], params=query, timeout=15).json()["token"])
