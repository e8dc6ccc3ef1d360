"""restic's own formats, as far as tests have to write what restic itself would not: an old lock, a key that opens fast.

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

# Any polynomial that is irreducible will do: this is the design document's.
_POLYNOMIAL = "25b468838dcb75"
# restic measures its own so that a password costs half a second each time; these cost a millisecond.
_SCRYPT = {"N": 1024, "r": 8, "p": 1}


@dataclass(frozen=True)
class Key:
    """A key of restic's: 32 bytes to encrypt with, and two times 16 to authenticate with."""

    encrypt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    mac: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def seal(self, content: Mapping[str, Any]) -> bytes:
        """Return a document as restic keeps it: a nonce, AES-256 in counter mode, Poly1305-AES."""
        nonce = secrets.token_bytes(16)
        counter = Cipher(algorithms.AES(self.encrypt), modes.CTR(nonce)).encryptor()
        sealed = counter.update(json.dumps(content).encode()) + counter.finalize()
        once = Cipher(algorithms.AES(self.mac[:16]), modes.ECB()).encryptor()
        return nonce + sealed + Poly1305.generate_tag(self.mac[16:] + once.update(nonce), sealed)

    def document(self) -> dict[str, Any]:
        """Return the key as restic writes it."""
        parts = {"k": b64encode(self.mac[:16]).decode(), "r": b64encode(self.mac[16:]).decode()}
        return {"mac": parts, "encrypt": b64encode(self.encrypt).decode()}


@dataclass(frozen=True)
class EmptyRepository:
    """The files of a repository in which nothing is stored yet, and its master key."""

    key: Key
    files: Mapping[str, bytes]

    def lock(self, when: datetime, host: str, *, exclusive: bool) -> tuple[str, bytes]:
        """Return the lock, by its name, of a process on a host that took it then and was not heard of since."""
        owner = {"hostname": host, "username": "root", "pid": 4242, "uid": 0, "gid": 0}
        sealed = self.key.seal({"time": when.isoformat(), "exclusive": exclusive, **owner})
        return f"locks/{hashlib.sha256(sealed).hexdigest()}", sealed


def empty_repository(password: str) -> EmptyRepository:
    """Return a repository that a password opens at once. All of them cut files at the same places."""
    master, salt = Key(), secrets.token_bytes(64)
    derived = hashlib.scrypt(password.encode(), salt=salt, n=_SCRYPT["N"], r=_SCRYPT["r"], p=_SCRYPT["p"], dklen=64)
    sealed = Key(derived[:32], derived[32:]).seal(master.document())
    about = {"hostname": "test", "username": "root", "kdf": "scrypt", "created": "2026-11-23T12:00:00Z", **_SCRYPT}
    key = json.dumps({**about, "data": b64encode(sealed).decode(), "salt": b64encode(salt).decode()}).encode()
    config = master.seal({"version": 2, "id": secrets.token_hex(32), "chunker_polynomial": _POLYNOMIAL})
    return EmptyRepository(master, {"config": config, f"keys/{hashlib.sha256(key).hexdigest()}": key})
