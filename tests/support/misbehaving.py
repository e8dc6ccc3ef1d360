"""A proxy in front of the bucket that behaves as it is told: passes on, answers with an error, dawdles, or is not there."""

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

# More than any test sends; whoever asks more often is in a loop.
_MOST_REQUESTS = 5000

_OF_THE_CONNECTION = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})


@dataclass(frozen=True)
class Fault:
    """What becomes of a request: it waits, then is answered with an S3 error, cut off without an answer, or passed on."""

    status: int = 0
    code: str = ""
    wait: float = 0.0
    cut: bool = False


WELL = Fault()
AWAY = Fault(cut=True)
INTERNAL_ERROR = Fault(500, "InternalError")
EXPIRED = Fault(400, "ExpiredToken")


@dataclass
class Misbehaving:
    """A running proxy. ``judge`` says what becomes of a request, by its method and path; all of them are noted."""

    url: str
    judge: Callable[[str, str], Fault] = lambda method, path: WELL
    seen: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def in_front_of(endpoint_url: str, address: str) -> Iterator[Misbehaving]:
    """Run a proxy at an address of this machine until the end of the block."""
    with _Server(endpoint_url, address) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.proxy
        server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, endpoint_url: str, address: str) -> None:
        super().__init__((address, 0), _Handler)
        self.behind = urlsplit(endpoint_url)
        self.proxy = Misbehaving(f"http://{address}:{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> Any:
        """Every method is treated alike."""
        if name.startswith("do_"):
            return self._treat
        raise AttributeError(name)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """The noise of a server is no one's concern."""

    def _treat(self) -> None:
        proxy = self.server.proxy
        proxy.seen.append((self.command, self.path))
        assert len(proxy.seen) < _MOST_REQUESTS
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.judge(self.command, self.path)
        time.sleep(fault.wait)
        if fault.cut:
            self.close_connection = True
        elif fault.status:
            said = f"<Error><Code>{fault.code}</Code><Message>said the test</Message></Error>".encode()
            self._answer(fault.status, {"Content-Type": "application/xml", "Content-Length": str(len(said))}, said)
        else:
            self._pass_on(body)

    def _pass_on(self, body: bytes) -> None:
        behind = self.server.behind
        sent = {name: value for name, value in self.headers.items() if name != "Expect"}
        with closing(http.client.HTTPConnection(str(behind.hostname), behind.port, timeout=30)) as connection:
            connection.request(self.command, self.path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_THE_CONNECTION}
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self._answer(answer.status, {**kept, "Content-Length": length or "0"}, content)

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
