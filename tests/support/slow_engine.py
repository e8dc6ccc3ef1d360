"""A Docker engine whose answers arrive late and in one piece, as on a machine that is too busy to read them at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ENGINE = "/var/run/docker.sock"
_LATE_SECONDS = 0.2


@contextmanager
def slow_engine(folder: Path) -> Iterator[str]:
    """Yield the DOCKER_HOST of a proxy for the engine, which collects each answer before it passes it on."""
    path = folder / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=_accept, args=[listener], daemon=True).start()
        yield f"unix://{path}"


def _accept(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(_ENGINE)
            threading.Thread(target=_serve, args=[client, engine], daemon=True).start()


def _serve(client: socket.socket, engine: socket.socket) -> None:
    with client, engine:
        requests = threading.Thread(target=_copy, args=[client, engine, 0.0], daemon=True)
        requests.start()
        _copy(engine, client, _LATE_SECONDS)
        requests.join()


def _copy(source: socket.socket, target: socket.socket, late_seconds: float) -> None:
    with suppress(OSError):
        while source.recv(1, socket.MSG_PEEK):
            time.sleep(late_seconds)
            target.sendall(source.recv(65536))
        target.shutdown(socket.SHUT_WR)
