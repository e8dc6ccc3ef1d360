"""The client of the internal API, for commands that do not open the database themselves."""

from __future__ import annotations

import http.client
import json
from typing import Any

from .errors import CommandError
from .settings import load

_SECONDS = 60


class RefusedError(Exception):
    """The server refused; the message is for the user."""


def ask(method: str, path: str, document: object = None) -> dict[str, Any]:
    """The server's answer. Raises RefusedError when it refuses, CommandError when it cannot be reached."""
    settings = load()
    connection = http.client.HTTPConnection("127.0.0.1", settings.http_port, timeout=_SECONDS)
    body = b"" if document is None else json.dumps(document).encode()
    try:
        connection.request(
            method, f"/api/internal{path}", body, {"X-Gitea-Internal-Auth": f"Bearer {settings.internal_token}"}
        )
        response = connection.getresponse()
        content = response.read()
    except OSError as error:
        raise CommandError(f"Failed to connect to the Gitea server, is it running? {error}") from error
    finally:
        connection.close()
    return _answer(response.status, content)


def _answer(status: int, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content or b"{}")
    except ValueError:
        document = {}
    if status >= 400:
        raise RefusedError(str(document.get("message", f"Internal Server Error ({status})")))
    return dict(document)
