"""The adapter for HTTPS: requests for a domain, sent to a given address."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.errors import Unavailable

_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, headers in lower case, body, and when the server's certificate expires (HTTPS only)."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    certificate_ends: datetime | None = None

    def json(self) -> Any:
        """Return the body parsed as JSON."""
        return json.loads(self.body)


class _Connection(http.client.HTTPSConnection):
    def __init__(self, domain: str, address: str, context: ssl.SSLContext) -> None:
        super().__init__(domain, 443, timeout=_TIMEOUT_SECONDS, context=context)
        self._address = address
        self._tls = context
        self.certificate_ends: datetime | None = None

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), _TIMEOUT_SECONDS)
        tls = self._tls.wrap_socket(plain, server_hostname=self.host)
        self.sock = tls
        certificate = tls.getpeercert() or {}
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        self.certificate_ends = datetime.fromtimestamp(ends, UTC)


class Https:
    """Sends HTTPS requests. ``extra_ca`` is PEM text, trusted in addition to the public certificate authorities."""

    def __init__(self, extra_ca: str = "") -> None:
        self._tls = ssl.create_default_context()
        if extra_ca.strip():
            self._tls.load_verify_locations(cadata=extra_ca)

    def request(
        self,
        domain: str,
        address: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> Answer:
        """Send one request to ``address`` for ``domain``, whose certificate must be valid, and return the answer.

        A ``document`` is sent as JSON, bytes as they are. Raises Unavailable with the reason when no valid answer arrives.
        """
        connection = _Connection(domain, address, self._tls)
        body = document if document is None or isinstance(document, bytes) else json.dumps(document)
        kind = "application/octet-stream" if isinstance(document, bytes) else "application/json"
        sent = {} if body is None else {"Content-Type": kind}
        try:
            connection.request(method, path, body, sent | dict(headers or {}))
            response = connection.getresponse()
            answered = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, answered, response.read(), connection.certificate_ends)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"https://{domain}{path} at {address}: {error}", "run ops health on the host") from error
        finally:
            connection.close()

    def banner(self, address: str, port: int) -> str:
        """Return the first line that a TCP server sends; raises Unavailable when it sends no line."""
        try:
            with socket.create_connection((address, port), _TIMEOUT_SECONDS) as connection:
                return connection.makefile("rb").readline(256).decode("ascii", "replace").strip()
        except OSError as error:
            raise Unavailable(f"{address}:{port}: {error}", "look at docker compose ps on the host") from error
