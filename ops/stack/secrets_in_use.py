"""Whether Gitea runs with the site's secrets.

Gitea ignores a secret that it cannot read and starts: without a SECRET_KEY it encrypts with a public constant
(modules/setting/config_env.go and modules/setting/security.go of Gitea 1.22 to 1.27).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from ops.config import app_ini
from ops.config.gitea_settings import Sections, each_of, secret_of

# Section and key of app.ini, by the secret's file.
_KEYS: Mapping[str, tuple[str, str]] = {
    "gitea-secret-key": ("security", "SECRET_KEY"),
    "gitea-internal-token": ("security", "INTERNAL_TOKEN"),
    "gitea-jwt-secret": ("oauth2", "JWT_SECRET"),
}
INI = Path("gitea/conf/app.ini")
REMEDY = "run ops secrets fetch, then systemctl restart gitea-suite"


def not_in_use(data: Path, secrets: Path, settings: Sections | None = None) -> tuple[str, ...]:
    """Return the secrets of a folder that the app.ini in Gitea's data does not have; () while there is no app.ini.

    ``settings`` are the site's own, which may take values from further secrets. Gitea writes app.ini at each start from its
    environment. An unreadable file of a secret counts as not in use.
    """
    try:
        ini = (data / INI).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    found = parse(ini)
    keys = [*_KEYS.items(), *((secret_of(value), (one, key)) for one, key, value in each_of(settings or {}))]
    missing = (
        name
        for name, (section, key) in keys
        if name and not hmac.compare_digest(_digest(found.get((section, key), "")), _digest(_content(secrets / name)))
    )
    return tuple(dict.fromkeys(missing))


def parse(ini: str) -> app_ini.Settings:
    """Return the settings of an app.ini; none of a damaged one."""
    try:
        return app_ini.parse(ini)
    except app_ini.NotKeptError:
        return {}


def _content(file: Path) -> str:
    try:
        # Gitea removes the end of the line, too. No value equals one that cannot be read.
        content = file.read_text(encoding="utf-8").rstrip("\r\n")
        return app_ini.kept(content) or "empty"
    except OSError:
        return "unreadable"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
