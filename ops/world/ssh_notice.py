"""The door to ssh clients: a sentence where there is no server at the moment."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# RFC 4253, 11.1. OpenSSH shows the description to its user, and git whatever ssh shows.
_DISCONNECT, _SERVICE_NOT_AVAILABLE = 1, 7
_PATIENCE_SECONDS = 3.0


def disconnect_message(sentence: str) -> bytes:
    """Return what an SSH server says that takes no one in: its version, then a disconnect with the sentence."""
    text = sentence.encode()
    payload = struct.pack(">BII", _DISCONNECT, _SERVICE_NOT_AVAILABLE, len(text)) + text + struct.pack(">I", 0)
    # At least four bytes, and a multiple of eight in all; before the keys are exchanged, nothing is encrypted.
    padding = 4 + -(4 + 1 + len(payload) + 4) % 8
    packet = struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)
    return b"SSH-2.0-away\r\n" + packet


class _NoticeServer(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class SshNotice:
    """Answers ssh clients in this process: when it ends, however it does, the port is free."""

    @contextmanager
    def notice(self, port: int, sentence: str) -> Iterator[bool]:
        """Say the sentence to everyone who connects while the block runs; yields False when the port cannot be had."""
        said = disconnect_message(sentence)

        class Notice(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    self.request.settimeout(_PATIENCE_SECONDS)
                    self.request.sendall(said)
                    self.request.shutdown(socket.SHUT_WR)
                    # Closed with something unread, the connection would be reset and the sentence lost.
                    while self.request.recv(4096):
                        pass

        try:
            server = _NoticeServer(("::", port), Notice)
        except OSError:
            yield False
            return
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield True
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
