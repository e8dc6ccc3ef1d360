"""ssh keys in OpenSSH's format, whose secret part is left out."""

from __future__ import annotations

import base64
import struct


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def pair(kind: bytes = b"ssh-ed25519", cipher: bytes = b"none") -> tuple[bytes, bytes]:
    """Return a private and a public key in OpenSSH's format, whose secret part is left out."""
    blob = _string(kind) + _string(b"\1" * 32)
    data = (
        b"openssh-key-v1\0" + _string(cipher) + _string(b"none") + _string(b"") + struct.pack(">I", 1) + _string(blob)
    )
    text = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.encodebytes(data) + b"-----END OPENSSH PRIVATE KEY-----\n"
    return text, kind + b" " + base64.b64encode(blob) + b" me\n"
