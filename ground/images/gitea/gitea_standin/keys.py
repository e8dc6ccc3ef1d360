"""ssh keys: stored in PostgreSQL, written into authorized_keys with `gitea serv` as their forced command."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .accounts import User
from .database import Database, Duplicate, Row

AUTHORIZED_KEYS = Path("/data/git/.ssh/authorized_keys")
_MARK = "# gitea public key"
_OPTIONS = "no-port-forwarding,no-X11-forwarding,no-agent-forwarding,no-pty,no-user-rc,restrict"


class BadKeyError(Exception):
    """A key cannot be added; the message is Gitea's."""


@dataclass(frozen=True)
class PublicKey:
    """One key."""

    id: int
    owner_id: int
    title: str
    content: str
    fingerprint: str
    created_unix: int


def add_key(database: Database, owner: User, title: str, text: str, config: Path) -> PublicKey:
    """Stores a key and lets it sign in. Raises BadKeyError for an invalid key and for a known key or title."""
    content, fingerprint, now = _content_of(text), _fingerprint_of(text), int(time.time())
    if database.row("SELECT 1 AS one FROM public_key WHERE owner_id = %s AND name = %s", owner.id, title):
        raise BadKeyError("Key title has been used")
    try:
        row = database.insert(
            "public_key",
            owner_id=owner.id,
            name=title,
            fingerprint=fingerprint,
            content=content,
            created_unix=now,
            updated_unix=now,
        )
    except Duplicate as error:
        raise BadKeyError("Key content has been used as non-deploy key") from error
    rewrite_authorized_keys(database, config)
    return _key_from(row)


def find_key(database: Database, number: int) -> PublicKey | None:
    """The key with that number."""
    row = database.row("SELECT * FROM public_key WHERE id = %s", number)
    return _key_from(row) if row else None


def keys_of(database: Database, owner: User) -> list[PublicKey]:
    """The keys of an account, oldest first."""
    return [
        _key_from(row) for row in database.rows("SELECT * FROM public_key WHERE owner_id = %s ORDER BY id", owner.id)
    ]


def delete_key(database: Database, key: PublicKey, config: Path) -> None:
    """Removes a key, which cannot sign in any more."""
    database.execute("DELETE FROM public_key WHERE id = %s", key.id)
    rewrite_authorized_keys(database, config)


def rewrite_authorized_keys(database: Database, config: Path) -> None:
    """Writes the database's keys into the file; lines that are not Gitea's stay."""
    path = AUTHORIZED_KEYS
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with path.with_name(".authorized_keys.lock").open("w") as lock:
        # Without the lock, two concurrent rewrites would each lose the other's key.
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = "".join(f"{line}\n" for line in [*_foreign_lines(path), *_own_lines(database, config)])
        draft = path.with_name("authorized_keys.tmp")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        draft.replace(path)


def not_written(database: Database, config: Path) -> bool:
    """Whether the file lacks a line of the database's keys. Raises OSError without the file."""
    return not set(_own_lines(database, config)) <= {_MARK, *AUTHORIZED_KEYS.read_text().splitlines()}


def _own_lines(database: Database, config: Path) -> Iterator[str]:
    for row in database.rows("SELECT * FROM public_key ORDER BY id"):
        yield _MARK
        command = f"/usr/local/bin/gitea --config={config} serv key-{row['id']}"
        yield f'command="{command}",{_OPTIONS} {row["content"]} user-{row["owner_id"]}'


def _foreign_lines(path: Path) -> Iterator[str]:
    lines = iter(path.read_text().splitlines() if path.exists() else [])
    for line in lines:
        if line.startswith(_MARK):
            next(lines, None)
        else:
            yield line


def _content_of(text: str) -> str:
    """The kind and the key, without the comment."""
    parts = text.split()
    if len(parts) == 1:
        raise BadKeyError(f"Invalid key content: {_reason(parts[0])}")
    if not parts or "\n" in text.strip():
        raise BadKeyError("Invalid key content: no key found")
    return " ".join(parts[:2])


def _reason(word: str) -> str:
    """Why a single word is no key: in SSH's wire format, the name of the kind follows its length."""
    try:
        wire = b64decode(word, validate=True)
    except ValueError as error:
        return f"extractTypeFromBase64Key: {error}"
    length = int.from_bytes(wire[:4], "big")
    return f"extractTypeFromBase64Key: invalid key format: not enough length {length}"


def _fingerprint_of(text: str) -> str:
    done = subprocess.run(["ssh-keygen", "-l", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BadKeyError("Invalid key content: ssh: no key found")
    return done.stdout.split()[1]


def _key_from(row: Row) -> PublicKey:
    values = (row[name] for name in ("id", "owner_id", "name", "content", "fingerprint", "created_unix"))
    return PublicKey(*values)
