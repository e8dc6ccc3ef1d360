"""Whether Gitea runs with the site's secrets.

Gitea ignores a secret that it cannot read and starts: without a SECRET_KEY it encrypts with a public constant
(modules/setting/config_env.go and modules/setting/security.go of Gitea 1.22 to 1.27).
"""

from __future__ import annotations

import configparser
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

# Section and key of app.ini, by the secret's file.
_KEYS: Mapping[str, tuple[str, str]] = {
    "gitea-secret-key": ("security", "SECRET_KEY"),
    "gitea-internal-token": ("security", "INTERNAL_TOKEN"),
    "gitea-jwt-secret": ("oauth2", "JWT_SECRET"),
}
REMEDY = "run ops secrets fetch, then systemctl restart gitea-suite"


def not_in_use(data: Path, secrets: Path) -> tuple[str, ...]:
    """Return the secrets of a folder that the app.ini in Gitea's data does not have; () while there is no app.ini.

    Gitea writes app.ini at each start from its environment. An unreadable file of a secret counts as not in use.
    """
    try:
        ini = (data / "gitea/conf/app.ini").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    parser = parse(ini)
    return tuple(
        name
        for name, (section, key) in _KEYS.items()
        if not hmac.compare_digest(_digest(value_of(parser, section, key)), _digest(_content(secrets / name)))
    )


def parse(ini: str) -> configparser.RawConfigParser:
    """Return the settings of an app.ini."""
    # The lines before the first section are the application's own, such as APP_NAME.
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.read_string(f"[DEFAULT]\n{ini}")
    return parser


def value_of(parser: configparser.RawConfigParser, section: str, key: str) -> str:
    """Return a setting without its quotes, "" if it is missing."""
    return (parser.get(section, key, fallback="") or "").strip('`"')


def _content(file: Path) -> str:
    try:
        # Gitea removes the end of the line, too. No value equals one that cannot be read.
        return file.read_text(encoding="utf-8").rstrip("\r\n") or "empty"
    except OSError:
        return "unreadable"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
