"""A bounded crowd that asks a site over and over: on a new connection each time, or on one that is kept alive."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType

_TIMEOUT_SECONDS = 15


@dataclass
class Crowd:
    """So many clients of each kind, each asking again when it was answered; every answer but ``expected`` is a failure.

    A request that fails is never repeated, on a kept-alive connection neither. Used as a context: it asks until the end of
    the block, and then ``served``, ``failures`` (how often which) and ``longest`` (seconds of the slowest) are final.
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
    failures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._over, self._lock = threading.Event(), threading.Lock()
        kinds = [False] * self.fresh + [True] * self.kept
        self._threads = [threading.Thread(target=self._ask_on, args=(keep,), daemon=True) for keep in kinds]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_SECONDS)

    def await_served(self, count: int, seconds: float = 300) -> None:
        """Wait until so many requests were answered in all; raises AssertionError after so long."""
        end = time.monotonic() + seconds
        while self.served + self.failures.total() < count:
            assert time.monotonic() < end, f"{self.served} of {count} requests in {seconds:.0f} s"
            time.sleep(0.05)

    def _ask_on(self, keep: bool) -> None:
        connection: http.client.HTTPSConnection | None = None
        while not self._over.is_set():
            began, reused = time.monotonic(), connection is not None
            try:
                connection = connection or connected(self.address, self.port, self.name, self.trust)
                connection.request("GET", self.path, headers={} if keep else {"Connection": "close"})
                answer = connection.getresponse()
                answer.read()
                failure = "" if answer.status == self.expected else f"answer {answer.status}"
                if not keep or answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                failure = f"{type(error).__name__} on a {'kept-alive' if reused else 'new'} connection"
                if connection:
                    connection.close()
                connection = None
            with self._lock:
                self.longest = max(self.longest, time.monotonic() - began)
                if failure:
                    self.failures[failure] += 1
                else:
                    self.served += 1
                    self.reused += reused
            if failure:
                # What is away is asked again soon, and not as fast as it can refuse.
                self._over.wait(0.02)
        if connection:
            connection.close()


def connected(address: str, port: int, name: str, trust: ssl.SSLContext) -> http.client.HTTPSConnection:
    """Return a connection to the site of that name at an address; raises OSError where no one takes it."""
    connection = http.client.HTTPSConnection(name, port, timeout=_TIMEOUT_SECONDS)
    plain = socket.create_connection((address, port), timeout=_TIMEOUT_SECONDS)
    connection.sock = trust.wrap_socket(plain, server_hostname=name)
    return connection


@contextmanager
def slow_way(address: str, port: int, bytes_per_second: int) -> Iterator[int]:
    """Yield a port of this machine that leads to ``address``, and takes no more than so many bytes a second there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def lead(near: socket.socket) -> None:
            with near, socket.create_connection((address, port)) as far:
                back = threading.Thread(target=_pass_on, args=(far, near, 0), daemon=True)
                back.start()
                _pass_on(near, far, bytes_per_second)
                back.join()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=lead, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        # Wakes whoever accepts.
        listener.shutdown(socket.SHUT_RDWR)


def _pass_on(source: socket.socket, target: socket.socket, bytes_per_second: int) -> None:
    with suppress(OSError):
        while part := source.recv(max(bytes_per_second // 20, 1) if bytes_per_second else 65536):
            target.sendall(part)
            if bytes_per_second:
                time.sleep(len(part) / bytes_per_second)
        target.shutdown(socket.SHUT_WR)
