"""Generates, hashes and compares passwords and tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from dataclasses import dataclass

# Gitea's own default: PBKDF2 with 50 000 rounds and 50 bytes.
ALGORITHM = "pbkdf2$50000$50"
_ROUNDS, _LENGTH = 50_000, 50
_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Hashed:
    """The stored form of a secret."""

    digest: str
    salt: str


def hash_password(password: str, salt: str | None = None) -> Hashed:
    """The password's slow hash; takes some 20 ms on purpose."""
    salt = salt or secrets.token_hex(16)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), _ROUNDS, _LENGTH)
    return Hashed(digest.hex(), salt)


def password_matches(password: str, stored: Hashed) -> bool:
    """Whether `password` has that hash; takes the same time either way."""
    return hmac.compare_digest(hash_password(password, stored.salt).digest, stored.digest)


def new_token() -> str:
    """An access token in Gitea's form: 40 hexadecimal digits."""
    return secrets.token_hex(20)


def hash_token(token: str, salt: str | None = None) -> Hashed:
    """The token's hash; a fast one suffices because tokens are random."""
    salt = salt or secrets.token_hex(8)
    return Hashed(hashlib.sha256(f"{salt}{token}".encode()).hexdigest(), salt)


def token_matches(token: str, stored: Hashed) -> bool:
    """Whether `token` has that hash."""
    return hmac.compare_digest(hash_token(token, stored.salt).digest, stored.digest)


def looks_like_token(text: str) -> bool:
    """Whether `text` has the form of an access token."""
    return len(text) == 40 and set(text) <= set(string.hexdigits)


def random_text(length: int) -> str:
    """`length` random letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
