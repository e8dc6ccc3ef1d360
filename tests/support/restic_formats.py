"""restic's file formats, for files that restic itself would not write: an old lock, a key that opens quickly.

Source: restic's design document ("Repository Format", "Keys, Encryption and MAC", "Locks").
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

# Any irreducible polynomial works. This one is from the design document.
_POLYNOMIAL = "25b468838dcb75"
# restic chooses parameters that take half a second per password; these take a millisecond.
_SCRYPT = {"N": 1024, "r": 8, "p": 1}


@dataclass(frozen=True)
class Key:
    """A restic key: 32 bytes for encryption, and two times 16 for authentication."""

    encrypt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    mac: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def encrypted(self, content: Mapping[str, Any]) -> bytes:
        """Return a document in restic's encrypted form: a nonce, AES-256 in counter mode, Poly1305-AES."""
        nonce = secrets.token_bytes(16)
        counter = Cipher(algorithms.AES(self.encrypt), modes.CTR(nonce)).encryptor()
        ciphertext = counter.update(json.dumps(content).encode()) + counter.finalize()
        once = Cipher(algorithms.AES(self.mac[:16]), modes.ECB()).encryptor()
        return nonce + ciphertext + Poly1305.generate_tag(self.mac[16:] + once.update(nonce), ciphertext)

    def document(self) -> dict[str, Any]:
        """Return the key in restic's JSON form."""
        parts = {"k": b64encode(self.mac[:16]).decode(), "r": b64encode(self.mac[16:]).decode()}
        return {"mac": parts, "encrypt": b64encode(self.encrypt).decode()}


@dataclass(frozen=True)
class EmptyRepository:
    """The files of an empty repository, and its master key."""

    key: Key
    files: Mapping[str, bytes]

    def lock(self, when: datetime, host: str, *, exclusive: bool) -> tuple[str, bytes]:
        """Return name and content of a lock that a process on ``host`` took at ``when`` and never refreshed."""
        owner = {"hostname": host, "username": "root", "pid": 4242, "uid": 0, "gid": 0}
        ciphertext = self.key.encrypted({"time": when.isoformat(), "exclusive": exclusive, **owner})
        return f"locks/{hashlib.sha256(ciphertext).hexdigest()}", ciphertext


def empty_repository(password: str) -> EmptyRepository:
    """Return a repository that a password opens quickly. All such repositories have the same chunk boundaries."""
    master, salt = Key(), secrets.token_bytes(64)
    derived = hashlib.scrypt(password.encode(), salt=salt, n=_SCRYPT["N"], r=_SCRYPT["r"], p=_SCRYPT["p"], dklen=64)
    ciphertext = Key(derived[:32], derived[32:]).encrypted(master.document())
    about = {"hostname": "test", "username": "root", "kdf": "scrypt", "created": "2026-11-23T12:00:00Z", **_SCRYPT}
    key = json.dumps({**about, "data": b64encode(ciphertext).decode(), "salt": b64encode(salt).decode()}).encode()
    config = master.encrypted({"version": 2, "id": secrets.token_hex(32), "chunker_polynomial": _POLYNOMIAL})
    return EmptyRepository(master, {"config": config, f"keys/{hashlib.sha256(key).hexdigest()}": key})
