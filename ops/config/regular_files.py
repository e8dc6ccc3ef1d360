"""Read a file that an operator names: a regular file of UTF-8 text, of at most 1 MiB."""

from __future__ import annotations

import stat
from pathlib import Path

from ops.errors import ConfigError

LARGEST_BYTES = 1 << 20
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def read_bytes(path: Path, what: str, hint: str) -> bytes:
    """Return the file's content; raises ConfigError that names ``what`` the file is, its path and the reason.

    Only a regular file is opened: a pipe would block, and a device may have no end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{what} {path} is not a regular file", hint)
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror}", hint) from error
    if len(content) > LARGEST_BYTES:
        raise ConfigError(f"{what} {path} is larger than 1 MiB", hint)
    return content


def read_text(path: Path, what: str, hint: str) -> str:
    """Return the file's text; raises ConfigError as ``read_bytes`` does, and for text in another encoding than UTF-8."""
    content = read_bytes(path, what, hint)
    if content.startswith(_MARKS):
        raise ConfigError(
            f"{what} {path} begins with a byte order mark; it must be plain UTF-8",
            "write the file as UTF-8 without a byte order mark (BOM)",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{what} {path} is not UTF-8: line {line} has the byte 0x{content[error.start]:02x}",
            "write the file in UTF-8, for example with iconv -f latin1 -t utf-8",
        ) from error
