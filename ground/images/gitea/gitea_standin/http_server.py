"""The HTTP server: werkzeug's threaded server with keep-alive, streaming and a graceful stop.

werkzeug's own response loop closes each connection and reads the rest of the request up to 10 GB. Gitea keeps connections
open and hangs up on a push that it refuses, so this module sends responses itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, cast

from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wsgi import LimitedStream, get_content_length

from . import log

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

# An application sets this key in the environ when it reads the body while the response is already being sent.
BODY_TAKEN = "standin.body_taken"
# An application that answers 101 puts here what it sends in the other protocol; werkzeug drops a body of such an answer.
UPGRADED = "standin.upgraded"
_IDLE_SECONDS = 120
_DRAIN_BYTES = 1024 * 1024
# How long a request whose connection was closed may take to stop its git.
_ABORT_SECONDS = 0.2
_SHUTDOWN = "modules/graceful/manager_unix.go:handleSignals()"
_CLIENT_GONE = (ConnectionError, TimeoutError, ClientDisconnected)


class Server(ThreadedWSGIServer):
    """Serves a WSGI application with one thread per connection; sets `stopping` when the shutdown begins."""

    request_queue_size = 1024

    def __init__(self, host: str, port: int, application: WSGIApplication, stopping: threading.Event) -> None:
        self.stopping = stopping
        self._running = 0
        self._quiet = threading.Condition()
        self._open: set[socket.socket] = set()
        super().__init__(host, port, application, handler=_Handler)

    def handle_error(self, *connection: Any) -> None:
        """Logs an exception that ended a connection, unless the client only went away."""
        error = sys.exc_info()[1]
        if not isinstance(error, _CLIENT_GONE):
            log.error("web/server.go:serve()", f"connection of {connection[-1]}: {error!r}")

    def process_request(self, request: Any, client_address: Any) -> None:
        """Notes the connection as open and gives it a thread."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def run_until_signal(self, grace_seconds: float) -> None:
        """Serves until SIGTERM or SIGINT, then accepts no more connections and waits so long for running requests.

        With 0 it closes every connection at once instead, running requests included.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        self.serve_forever(poll_interval=0.1)
        if not grace_seconds:
            self._close_connections()
        with self._quiet:
            self._quiet.wait_for(lambda: self._running == 0, timeout=grace_seconds or _ABORT_SECONDS)

    def _close_connections(self) -> None:
        if self._running:
            text = f"After graceful shutdown period, {self._running} connections are still active. Forcefully close."
            log.warning(_SHUTDOWN, text)
        for connection in tuple(self._open):
            # It may have ended meanwhile.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def running_request(self) -> Iterator[None]:
        """Counts a request as running for the length of the block."""
        with self._quiet:
            self._running += 1
        try:
            yield
        finally:
            with self._quiet:
                self._running -= 1
                self._quiet.notify_all()

    def _stop(self) -> None:
        log.warning(_SHUTDOWN, f"PID {os.getpid()}. Received SIGTERM. Shutting down...")
        self.stopping.set()
        # shutdown() waits for the loop that this signal interrupted, so it needs its own thread.
        threading.Thread(target=self.shutdown, daemon=True).start()


class _Handler(WSGIRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    # Head and first piece leave in one packet; every piece is flushed.
    wbufsize = -1

    def make_environ(self) -> WSGIEnvironment:
        """The request as WSGI defines it, with a body that ends where the request ends."""
        environ = super().make_environ()
        if "wsgi.input_terminated" not in environ:
            environ["wsgi.input"] = LimitedStream(cast("IO[bytes]", self.rfile), get_content_length(environ) or 0)
            environ["wsgi.input_terminated"] = True
        return environ

    def handle_expect_100(self) -> bool:
        """Sends 100 Continue at once: the client waits for it before it sends the body."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def run_wsgi(self) -> None:
        """Answers one request, logs it, and decides whether the connection stays open."""
        self.environ = environ = self.make_environ()
        started, head = time.monotonic(), _Head()
        with self.server.running_request():
            pieces = self.server.app(environ, head.start_response)
            try:
                if BODY_TAKEN not in environ:
                    # Unread bytes would be parsed as the next request; a large refused body is not read to its end.
                    self.close_connection |= len(environ["wsgi.input"].read(_DRAIN_BYTES)) == _DRAIN_BYTES
                self._send(head, pieces)
            finally:
                if close := getattr(pieces, "close", None):
                    close()
        milliseconds = (time.monotonic() - started) * 1000
        what = f"{self.command} {self.path.partition('?')[0]} for {environ['REMOTE_ADDR']}"
        log.info(
            "router.go:completed()",
            f"router: completed {what}, {head.status} {head.status.phrase} in {milliseconds:.1f}ms",
        )
        self.close_connection |= bool(environ["wsgi.input"].read(1))

    def _send(self, head: _Head, pieces: Iterable[bytes]) -> None:
        if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._send_upgraded(head, self.environ[UPGRADED])
            return
        delimited = self.command == "HEAD" or head.names_the_end
        chunked = not delimited and self.request_version != "HTTP/1.0"
        self.close_connection |= self.server.stopping.is_set() or not (delimited or chunked)
        extra = {"Transfer-Encoding": "chunked"} if chunked else {}
        self._send_head(head, extra | ({"Connection": "close"} if self.close_connection else {}))
        for piece in _chunks(pieces) if chunked else pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        self.wfile.flush()

    def _send_upgraded(self, head: _Head, pieces: Iterable[bytes]) -> None:
        # The connection belongs to the other protocol until its end.
        self.close_connection = True
        self._send_head(head, {})
        self.wfile.flush()
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()

    def _send_head(self, head: _Head, extra: Mapping[str, str]) -> None:
        self.send_response_only(head.status, head.status.phrase)
        for name, value in [("Date", self.date_time_string()), *extra.items(), *head.headers]:
            self.send_header(name, value)
        self.end_headers()

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: `run_wsgi` logs requests in Gitea's format."""


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # An empty piece would end the response.
    for piece in filter(None, pieces):
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


class _Head:
    """Status and headers as the application gives them."""

    status: HTTPStatus
    headers: list[tuple[str, str]]

    @property
    def names_the_end(self) -> bool:
        return self.status == HTTPStatus.NO_CONTENT or any(name.lower() == "content-length" for name, _ in self.headers)

    def start_response(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
        self.status, self.headers = HTTPStatus(int(status[:3])), headers
