"""Check the files of the deploying machine that a site file names: the ssh key pair, and a private issuer's certificates."""

from __future__ import annotations

import base64
import json
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

from ops.config.regular_files import read_bytes, read_text
from ops.config.schema import Site
from ops.errors import ConfigError

_TYPE = "ssh-ed25519"
_MAGIC = b"openssh-key-v1\0"
_BEGIN, _END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
_MAKE = "make an Ed25519 key: ssh-keygen -t ed25519 -N '' -f"


def require(site: Site) -> None:
    """Raise ConfigError, with each problem's key and remedy, when a deployment could not use a file that exists.

    A missing key pair is not a problem here: `ops deploy` names the command that makes one. A missing ``tls.acme_ca`` is.
    """
    problems = [*_of_the_key(site), *_of_the_authority(site)]
    if problems:
        raise ConfigError(
            "\n".join(problems), "correct the file or the key of the site file, then run the command again"
        )


def _of_the_key(site: Site) -> Iterator[str]:
    try:
        private = Path(site.host.ssh_key).expanduser()
        public = private.with_name(f"{private.name}.pub")
        exist = private.exists(), public.exists()
    except (OSError, RuntimeError, ValueError) as error:
        yield f"host.ssh_key = {_shown(site.host.ssh_key)} is not a path on this machine: {error}"
        return
    found, blob = "", b""
    if exist[0]:
        found, blob = _private_key(read_bytes(private, "host.ssh_key", f"{_MAKE} {private}"), private)
    if not found and exist[1]:
        found = _public_key(read_text(public, "the public half of host.ssh_key", f"{_MAKE} {private}"), public, blob)
    if found:
        yield f"host.ssh_key = {_shown(site.host.ssh_key)}: {found}"


def _private_key(content: bytes, path: Path) -> tuple[str, bytes]:
    """Return the problem of a private key, "" for none, and its public half (PROTOCOL.key of OpenSSH)."""
    text = content.decode("latin-1")
    body = text.partition(_BEGIN)[2].partition(_END)[0]
    if not body:
        kind = (
            "encrypted" if "ENCRYPTED" in text else "in another format than OpenSSH's, or of another type than Ed25519"
        )
        return f"the key is {kind}: {_MAKE} {path}", b""
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
        if not data.startswith(_MAGIC):
            raise ValueError
        cipher, rest = _string(data[len(_MAGIC) :])
        _, rest = _string(rest)
        _, rest = _string(rest)
        blob, _ = _string(rest[4:])
        kind = _string(blob)[0].decode("ascii")
    except (ValueError, struct.error):
        return f"the key is damaged: {_MAKE} {path}", b""
    if kind != _TYPE:
        return f"the key is of type {kind}, and the site needs Ed25519: {_MAKE} {path}", blob
    if cipher != b"none":
        return (
            f"the key has a passphrase, which a deployment cannot enter: remove it with ssh-keygen -p -N '' -f {path}",
            blob,
        )
    return "", blob


def _public_key(text: str, path: Path, blob: bytes) -> str:
    """Return the problem of a public key, "" for none. ``blob`` is the public half of the private key, b"" if unknown."""
    kind, _, rest = text.strip().partition(" ")
    if kind != _TYPE or "\n" in text.strip():
        return f"{path} is not one line with a public key of type {_TYPE}: write it again with ssh-keygen -y"
    try:
        found = base64.b64decode(rest.split(" ")[0], validate=True)
    except ValueError:
        found = b""
    if not found or (blob and found != blob):
        return f"{path} is damaged or belongs to another key: write it again with ssh-keygen -y"
    return ""


def _string(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack(">I", data[:4])
    if len(data) < 4 + length:
        raise ValueError
    return data[4 : 4 + length], data[4 + length :]


def _of_the_authority(site: Site) -> Iterator[str]:
    if not site.tls.acme_ca:
        return
    hint = "give the path of the issuer's PEM file in tls.acme_ca, or leave the key out for a public issuer"
    text = read_text(Path(site.tls.acme_ca), "tls.acme_ca", hint)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ValueError, TypeError, ssl.SSLError) as error:
        yield f"tls.acme_ca = {_shown(site.tls.acme_ca)} has no certificates that can be read ({error}): give a PEM file"


def _shown(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
