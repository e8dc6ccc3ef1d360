"""Clients that send requests in a loop: on a new connection each time, or on a kept-alive one."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType

# Longer than a request waits while Gitea is stopped.
_TIMEOUT_SECONDS = 60


@dataclass
class Transfers:
    """Clones and pushes that run in loops: how many ended, by kind, and the errors of those that failed."""

    ended: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, done: subprocess.CompletedProcess[str]) -> None:
        """Count a transfer that ended."""
        with self._lock:
            self.ended[kind] += 1
            if done.returncode:
                self.errors.append(f"{kind}: {done.stderr[-300:]}")


@dataclass
class LoadClients:
    """``fresh`` clients with a new connection per request and ``kept`` with a kept-alive one; each sends one request at a time.

    Every answer but ``expected`` is a failure. No request is repeated, also not on a kept-alive connection. As a context
    manager it runs until the end of the block; then ``served``, ``failures`` (a count per kind) and ``longest`` (seconds of
    the slowest request) are final; ``seconds`` has those of every request.
    """

    address: str
    port: int
    name: str
    trust: ssl.SSLContext
    path: str = "/"
    expected: int = 200
    fresh: int = 6
    kept: int = 6
    served: int = 0
    reused: int = 0
    longest: float = 0.0
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._ended, self._lock = threading.Event(), threading.Lock()
        kinds = [False] * self.fresh + [True] * self.kept
        self._threads = [threading.Thread(target=self._request_loop, args=(keep,), daemon=True) for keep in kinds]

    def __enter__(self) -> LoadClients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_SECONDS)

    def await_served(self, count: int, seconds: float = 300) -> None:
        """Wait until ``count`` requests were answered in total; raises AssertionError after ``seconds``."""
        end = time.monotonic() + seconds
        while self.served + self.failures.total() < count:
            assert time.monotonic() < end, f"{self.served} of {count} requests in {seconds:.0f} s"
            time.sleep(0.05)

    def _request_loop(self, keep: bool) -> None:
        connection: http.client.HTTPSConnection | None = None
        while not self._ended.is_set():
            began, reused = time.monotonic(), connection is not None
            connection, failure = self._request(connection, keep)
            with self._lock:
                self._count(failure, reused, time.monotonic() - began)
            if failure:
                # A short pause, so that a refusing server does not cause a busy loop.
                self._ended.wait(0.02)
        if connection:
            connection.close()

    def _request(
        self, connection: http.client.HTTPSConnection | None, keep: bool
    ) -> tuple[http.client.HTTPSConnection | None, str]:
        """Send one request; returns the connection if it stays open, and the failure or an empty string."""
        reused = connection is not None
        try:
            connection = connection or connected(self.address, self.port, self.name, self.trust)
            connection.request("GET", self.path, headers={} if keep else {"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            if connection:
                connection.close()
            return None, f"{type(error).__name__} on a {'kept-alive' if reused else 'new'} connection"
        failure = "" if answer.status == self.expected else f"answer {answer.status}"
        if keep and not answer.will_close:
            return connection, failure
        connection.close()
        return None, failure

    def _count(self, failure: str, reused: bool, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        self.seconds.append(seconds)
        if failure:
            self.failures[failure] += 1
        else:
            self.served += 1
            self.reused += reused


def connected(address: str, port: int, name: str, trust: ssl.SSLContext) -> http.client.HTTPSConnection:
    """Return a connection to the site of that name at an address; raises OSError if it is refused."""
    connection = http.client.HTTPSConnection(name, port, timeout=_TIMEOUT_SECONDS)
    plain = socket.create_connection((address, port), timeout=_TIMEOUT_SECONDS)
    connection.sock = trust.wrap_socket(plain, server_hostname=name)
    return connection


@contextmanager
def throttled_port(address: str, port: int, bytes_per_second: int, answers_per_second: int = 0) -> Iterator[int]:
    """Yield a port of this machine that forwards to ``address``, with at most ``bytes_per_second`` in that direction.

    ``answers_per_second`` limits the bytes of the other direction; 0 is no limit.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def forward(client: socket.socket) -> None:
            with client, socket.create_connection((address, port)) as server:
                if answers_per_second:
                    # Megabytes in the kernel's buffers would be on their way when the server has sent everything.
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                response = threading.Thread(target=_forward, args=(server, client, answers_per_second), daemon=True)
                response.start()
                _forward(client, server, bytes_per_second)
                response.join()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=forward, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        # Wakes the accepting thread.
        listener.shutdown(socket.SHUT_RDWR)


def _forward(source: socket.socket, target: socket.socket, bytes_per_second: int) -> None:
    with suppress(OSError):
        while part := source.recv(max(bytes_per_second // 20, 1) if bytes_per_second else 65536):
            target.sendall(part)
            if bytes_per_second:
                time.sleep(len(part) / bytes_per_second)
        target.shutdown(socket.SHUT_WR)
