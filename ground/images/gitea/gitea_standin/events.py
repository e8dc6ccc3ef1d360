"""News for an open page: server-sent events up to Gitea 1.27, a WebSocket from 28 on."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha1

from werkzeug import Response
from werkzeug.exceptions import abort
from werkzeug.routing import Rule

from .context import Context, route
from .http_server import UPGRADED
from .release import Release
from .web import plain_error

_PING_SECONDS = float(os.environ.get("GITEA_STANDIN_PING_SECONDS", "30"))
# RFC 6455, sections 1.3 and 5.5.2.
_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_WEBSOCKET_PING = b"\x89\x00"


def routes(release: Release) -> list[Rule]:
    """The one path of the release."""
    if release.since(28):
        return [route("GET", "/-/ws", websocket)]
    return [route("GET", "/user/events", server_sent)]


def server_sent(context: Context) -> Response:
    """A ping every 30 seconds; anonymous readers get one event that closes the stream."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    stream = _pings(context) if context.user else iter([b"event: close\ndata: unauthorized\n\n"])
    return Response(stream, 200, headers, content_type="text/event-stream")


def websocket(context: Context) -> Response:
    """101 and a ping every 30 seconds, for everybody; 426 for a request that is no handshake."""
    headers, key = context.request.headers, context.request.headers.get("Sec-WebSocket-Key", "")
    if headers.get("Upgrade", "").lower() != "websocket" or not key:
        return plain_error("WebSocket protocol violation: Connection header does not contain Upgrade", 426)
    origin = headers.get("Origin", "")
    if origin and origin.partition("://")[2] != headers.get("Host"):
        abort(403, "request Origin is not authorized for Host")
    accept = b64encode(sha1(f"{key}{_ACCEPT}".encode()).digest()).decode()  # noqa: S324 - RFC 6455
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
    context.request.environ[UPGRADED] = _until_stopped(context, _WEBSOCKET_PING)
    return Response(status=101, headers=upgrade)


def _pings(context: Context) -> Iterator[bytes]:
    # Gitea writes an empty line first, which leaves with the first ping: the head of the answer, too.
    first = b"\n"
    for ping in _until_stopped(context, b"event: ping\n\n"):
        yield first + ping
        first = b""


def _until_stopped(context: Context, ping: bytes) -> Iterator[bytes]:
    while not context.instance.stopping.wait(_PING_SECONDS):
        yield ping
