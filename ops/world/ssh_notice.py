"""The adapter for ssh clients during maintenance: an SSH disconnect with a sentence."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# RFC 4253, 11.1. OpenSSH shows the description to its user, and git shows ssh's output.
_DISCONNECT, _SERVICE_NOT_AVAILABLE = 1, 7
_PATIENCE_SECONDS = 3.0


def disconnect_message(sentence: str) -> bytes:
    """Return the bytes of an SSH server that refuses every client: its version, then a disconnect with the sentence."""
    text = sentence.encode()
    payload = struct.pack(">BII", _DISCONNECT, _SERVICE_NOT_AVAILABLE, len(text)) + text + struct.pack(">I", 0)
    # RFC 4253, 6: at least four bytes of padding, in all a multiple of eight. Before the key exchange nothing is encrypted.
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
    """Answers ssh clients inside this process, so that the port is free when it ends, however it ends."""

    @contextmanager
    def notice(self, port: int, sentence: str) -> Iterator[bool]:
        """Send the sentence to every client during the block; yields False when the port is in use."""
        message = disconnect_message(sentence)

        class Notice(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    self.request.settimeout(_PATIENCE_SECONDS)
                    self.request.sendall(message)
                    self.request.shutdown(socket.SHUT_WR)
                    # Closing with unread data would reset the connection, and the client would lose the sentence.
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
