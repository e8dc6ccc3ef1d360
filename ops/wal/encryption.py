"""A seal around what lies in the bucket beside restic: encrypted and authenticated with a key that AWS never sees."""

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
    """Return the key that goes with restic's password: 43 random characters, so that no slow derivation is needed."""
    return HKDF(SHA256(), 32, salt=None, info=b"gitea-suite write-ahead log").derive(password.encode())


def encrypt(content: bytes, key: bytes, name: str) -> bytes:
    """Return the content compressed and sealed. It opens under this ``name`` alone: no one can pass it off as another's."""
    nonce = os.urandom(_NONCE)
    # The rest of a segment that was switched early is zeros; the fastest level does with them what the best does.
    packed = gzip.compress(content, compresslevel=1, mtime=0)
    return _MARK + nonce + AESGCM(key).encrypt(nonce, packed, name.encode())


def decrypt(content: bytes, key: bytes, name: str) -> bytes:
    """Return what was sealed, still compressed by gzip; raises OpsError when it is not whole, or not what was sealed."""
    nonce, rest = content[len(_MARK) : len(_MARK) + _NONCE], content[len(_MARK) + _NONCE :]
    try:
        if not content.startswith(_MARK):
            raise ValueError(name)
        return AESGCM(key).decrypt(nonce, rest, name.encode())
    except (InvalidTag, ValueError) as error:
        raise OpsError(
            f"{name} in the bucket is damaged, or was sealed with another password",
            "take an older version of it, or restore the dump of a backup: ops restore",
        ) from error


def is_encrypted(content: bytes) -> bool:
    """Tell whether something was sealed here."""
    return content.startswith(_MARK)


def decompressed(content: bytes) -> bytes:
    """Return what gzip packed; raises OpsError when it is cut off."""
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise OpsError("a packed segment is cut off", "fetch it again") from error
