"""A proxy with faults in front of an HTTP server: it forwards, answers with an error, delays, or cuts the connection."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# More than any test sends. More requests mean an endless loop.
_MOST_REQUESTS = 5000

_HOP_BY_HOP = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})


@dataclass(frozen=True)
class Fault:
    """The treatment of a request: after ``wait`` seconds an S3 error, a cut connection without an answer, or forwarding."""

    status: int = 0
    code: str = ""
    wait: float = 0.0
    cut: bool = False


NO_FAULT = Fault()
CONNECTION_CUT = Fault(cut=True)
INTERNAL_ERROR = Fault(500, "InternalError")
EXPIRED = Fault(400, "ExpiredToken")


@dataclass
class FaultyProxy:
    """A running proxy. ``fault_for`` returns the fault for a method and a path; ``seen`` records all requests."""

    url: str
    fault_for: Callable[[str, str], Fault] = lambda method, path: NO_FAULT
    seen: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def faulty_proxy(endpoint_url: str, address: str) -> Iterator[FaultyProxy]:
    """Run a proxy in front of ``endpoint_url``, at an address of this machine, for the length of the block."""
    with _Server(endpoint_url, address) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.proxy
        server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, endpoint_url: str, address: str) -> None:
        super().__init__((address, 0), _Handler)
        self.upstream = urlsplit(endpoint_url)
        self.proxy = FaultyProxy(f"http://{address}:{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> Any:
        """Return the same handler for every method."""
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _handle(self) -> None:
        proxy = self.server.proxy
        proxy.seen.append((self.command, self.path))
        assert len(proxy.seen) < _MOST_REQUESTS
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.fault_for(self.command, self.path)
        time.sleep(fault.wait)
        if fault.cut:
            self.close_connection = True
        elif fault.status:
            content = f"<Error><Code>{fault.code}</Code><Message>fault of the test</Message></Error>".encode()
            self._answer(
                fault.status, {"Content-Type": "application/xml", "Content-Length": str(len(content))}, content
            )
        else:
            self._forward(body)

    def _forward(self, body: bytes) -> None:
        upstream = self.server.upstream
        sent = {name: value for name, value in self.headers.items() if name != "Expect"}
        with closing(http.client.HTTPConnection(str(upstream.hostname), upstream.port, timeout=30)) as connection:
            connection.request(self.command, self.path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self._answer(answer.status, {**kept, "Content-Length": length or "0"}, content)

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
