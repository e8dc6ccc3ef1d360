"""Encryption of the WAL in the bucket, which is not in restic's repository: authenticated, with a key that AWS never sees."""

from __future__ import annotations

import gzip
import os
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ops.errors import OpsError

_MARK, _NONCE = b"GSW1", 12


def key_from(password: str) -> bytes:
    """Return the key derived from restic's password: 43 random characters, so no slow key derivation is needed."""
    return HKDF(SHA256(), 32, salt=None, info=b"gitea-suite write-ahead log").derive(password.encode())


def encrypt(content: bytes, key: bytes, name: str) -> bytes:
    """Return the content compressed and encrypted. ``name`` is authenticated, too: under another name, decryption fails."""
    nonce = os.urandom(_NONCE)
    # The rest of a segment that was switched early is zeros: the fastest level compresses them as well as the best.
    packed = gzip.compress(content, compresslevel=1, mtime=0)
    return _MARK + nonce + AESGCM(key).encrypt(nonce, packed, name.encode())


def decrypt(content: bytes, key: bytes, name: str) -> bytes:
    """Return the content, still compressed by gzip; raises OpsError if it is truncated, changed or of another key or name."""
    nonce, rest = content[len(_MARK) : len(_MARK) + _NONCE], content[len(_MARK) + _NONCE :]
    try:
        if not content.startswith(_MARK):
            raise ValueError(name)
        return AESGCM(key).decrypt(nonce, rest, name.encode())
    except (InvalidTag, ValueError) as error:
        raise OpsError(
            f"{name} in the bucket is damaged, or was encrypted with another password",
            "restore an older version of this object, or restore the dump of a backup with ops restore",
        ) from error


def is_encrypted(content: bytes) -> bool:
    """Return whether the content was encrypted by this module."""
    return content.startswith(_MARK)


def decompressed(content: bytes) -> bytes:
    """Return content decompressed by gzip; raises OpsError when it is truncated."""
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise OpsError("a compressed segment is truncated", "run the command again to fetch it again") from error
