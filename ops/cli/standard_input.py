"""Read standard input: a secret, or the end of a text. Wrong input is a ConfigError and never a traceback."""

from __future__ import annotations

import getpass
import io
import os
import sys
from pathlib import Path

from ops.errors import ConfigError

# The largest value of a secret in AWS Secrets Manager.
LONGEST_SECRET = 65536
_KEPT_BYTES, _CHUNK_BYTES, _MOST_BYTES = 1 << 20, 1 << 16, 1 << 28


def tolerate() -> None:
    """Let standard input have any bytes or be closed, and print characters that the terminal does not know escaped."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it stays open, as standard input does
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def one_line(prompt: str) -> str:
    """Read a secret: at a terminal without echo, otherwise the first line of standard input; raises ConfigError."""
    hint = "give the secret on standard input, as one line of UTF-8"
    try:
        line = _read_line(prompt)
        line.encode("utf-8")
    except (OSError, EOFError) as error:
        raise ConfigError(f"cannot read {prompt} from standard input: {error}", hint) from error
    except UnicodeError as error:
        raise ConfigError(f"{prompt} is not UTF-8", hint) from error
    if len(line) > LONGEST_SECRET:
        raise ConfigError(f"{prompt} is longer than {LONGEST_SECRET} characters", hint)
    return line


def _read_line(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"{prompt}: ", stream=sys.stderr)
    return sys.stdin.readline(LONGEST_SECRET + 2).rstrip("\n")


def end() -> str:
    """Return the end of standard input, at most 1 MiB; "" at a terminal. At most 256 MiB are read."""
    if sys.stdin.isatty():
        return ""
    kept, read = b"", 0
    try:
        while read < _MOST_BYTES and (chunk := sys.stdin.buffer.read(_CHUNK_BYTES)):
            kept, read = (kept + chunk)[-_KEPT_BYTES:], read + len(chunk)
    except OSError as error:
        raise ConfigError(
            f"cannot read standard input: {error.strerror}", "give the mail's text on standard input"
        ) from error
    # The output of a killed program may end in the middle of a character.
    return kept.decode("utf-8", "replace")
