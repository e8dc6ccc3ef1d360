"""The HTTP server: a thread a connection, keep-alive, streaming, an end that lets running requests finish."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from . import log
from .messages import Body, Request, Response

Application = Callable[[Request], Response]
_IDLE_SECONDS = 120.0
_DRAIN_BYTES = 1024 * 1024
_CLIENT_GONE = (ConnectionError, TimeoutError, socket.timeout)


class Server(ThreadingHTTPServer):
    """Serves `application`; `stopping` is set when the end has begun."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], application: Application) -> None:
        self.application = application
        self.stopping = threading.Event()
        self._running = 0
        self._quiet = threading.Condition()
        super().__init__(address, _Handler)

    def handle_error(self, *connection: Any) -> None:
        """A connection that breaks is no news, anything else is; neither ends the server."""
        error = sys.exc_info()[1]
        if not isinstance(error, _CLIENT_GONE):
            log.error("web/server.go:serve()", f"connection of {connection[-1]}: {error!r}")

    def run_until_signal(self, grace_seconds: float) -> None:
        """Serves until SIGTERM or SIGINT, then stops taking requests and waits for those under way."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._begin_end())
        self.serve_forever(poll_interval=0.1)
        self.server_close()
        self._wait_until_quiet(grace_seconds)

    def answer(self, request: Request) -> Response:
        """The application's answer."""
        return self.application(request)

    def enter(self) -> None:
        """A request begins."""
        with self._quiet:
            self._running += 1

    def leave(self) -> None:
        """A request is done."""
        with self._quiet:
            self._running -= 1
            self._quiet.notify_all()

    def _begin_end(self) -> None:
        self.stopping.set()
        # shutdown() waits for the loop this signal interrupted: it needs a thread of its own.
        threading.Thread(target=self.shutdown, daemon=True).start()

    def _wait_until_quiet(self, seconds: float) -> None:
        with self._quiet:
            self._quiet.wait_for(lambda: self._running == 0, timeout=seconds)


def _without_authority(target: str) -> str:
    # Proxies may send the whole address; and "//x" must not be taken for a host.
    if target.startswith(("http://", "https://")):
        target = target.partition("://")[2].partition("/")[2]
    return f"/{target.lstrip('/')}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "Gitea"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = 0

    def _serve(self) -> None:
        request = self._request()
        started = time.monotonic()
        self.server.enter()
        try:
            response = self.server.answer(request)
            self._send(request, response)
            self.close_connection |= not request.body.exhausted
        finally:
            self.server.leave()
        self._log(request, response, time.monotonic() - started)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815 - the base class's names

    def _request(self) -> Request:
        parts = urlsplit(_without_authority(self.path))
        length = self.headers.get("Content-Length", "0")
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        body = Body(self.rfile, 0 if chunked or not length.isdigit() else int(length), chunked)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return Request(self.command, unquote(parts.path), query, self.headers, body, self.client_address[0])

    def _send(self, request: Request, response: Response) -> None:
        self._drain(request)
        if self.server.stopping.is_set():
            self.close_connection = True
        if response.stream is None:
            self._send_whole(request, response)
        else:
            self._send_pieces(response)

    def _drain(self, request: Request) -> None:
        # What the handler left unread would be taken for the next request. A push nobody wants is not read to its end.
        if request.body_taken:
            return
        taken = 0
        while not request.body.exhausted and taken < _DRAIN_BYTES:
            taken += len(request.body.read(65536))
        self.close_connection |= not request.body.exhausted

    def _head(self, response: Response, extra: dict[str, str]) -> bytes:
        fields = {"Date": self.date_time_string(), **extra, **response.headers}
        if self.close_connection:
            fields["Connection"] = "close"
        phrase = HTTPStatus(response.status).phrase
        lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send_whole(self, request: Request, response: Response) -> None:
        body = response.body or b""
        head = self._head(response, {"Content-Length": str(len(body))} if response.status != 204 else {})
        self.wfile.write(head if request.method == "HEAD" else head + body)

    def _send_pieces(self, response: Response) -> None:
        chunked = self.request_version != "HTTP/1.0"
        self.close_connection |= not chunked
        try:
            self.wfile.write(self._head(response, {"Transfer-Encoding": "chunked"} if chunked else {}))
            for piece in response.stream or ():
                if piece:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
        finally:
            close = getattr(response.stream, "close", None)
            if close:
                close()

    def _log(self, request: Request, response: Response, seconds: float) -> None:
        phrase = HTTPStatus(response.status).phrase
        log.info(
            "router.go:completed()",
            f"router: completed {request.method} {request.path} for {request.client}, "
            f"{response.status} {phrase} in {seconds * 1000:.1f}ms",
        )

    def log_message(self, *_: Any) -> None:
        """Nothing: requests are logged in Gitea's format instead."""
