"""The typed settings of app.ini: the part of Gitea's configuration that this stand-in obeys."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .ini import Sections, parse

WORK_DIRECTORY = Path("/data/gitea")


@dataclass(frozen=True)
class DatabaseSettings:
    """The address of PostgreSQL, and how long a start waits for it (`retries` times `backoff` seconds)."""

    kind: str
    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    retries: int
    backoff: float


@dataclass(frozen=True)
class MailSettings:
    """The mail server, the sender of mails, and the credentials ("" for none)."""

    enabled: bool
    starttls: bool
    host: str
    port: int
    sender: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """The content of app.ini; secrets are not in its repr. ``cache`` is the address of a cache server, "" for none."""

    path: Path
    app_name: str
    root_url: str
    http_port: int
    ssh_domain: str
    ssh_port: int
    data_directory: Path
    repositories: Path
    install_lock: bool
    internal_token: str = field(repr=False)
    min_password_length: int
    metrics_enabled: bool
    metrics_token: str = field(repr=False)
    grace_seconds: float
    cache: str
    database: DatabaseSettings
    mail: MailSettings

    @property
    def https(self) -> bool:
        """Whether browsers reach this instance over TLS."""
        return self.root_url.startswith("https:")


def config_path() -> Path:
    """The path of app.ini in the environment of this process."""
    return Path(os.environ.get("GITEA_CUSTOM", str(WORK_DIRECTORY))) / "conf" / "app.ini"


def load() -> Settings:
    """The settings in app.ini; a missing file counts as empty."""
    path = config_path()
    keys = Keys(parse(path.read_text()) if path.exists() else {})
    port = keys.number("server", "HTTP_PORT", 3000)
    domain = keys.text("server", "DOMAIN", "localhost")
    root_url = keys.text("server", "ROOT_URL", f"http://{domain}:{port}/").rstrip("/") + "/"
    return Settings(
        path=path,
        app_name=keys.text("", "APP_NAME", "Gitea: Git with a cup of tea"),
        root_url=root_url,
        http_port=port,
        ssh_domain=keys.text("server", "SSH_DOMAIN", urlsplit(root_url).hostname or domain),
        ssh_port=keys.number("server", "SSH_PORT", 22),
        data_directory=Path(keys.text("server", "APP_DATA_PATH", str(WORK_DIRECTORY))),
        repositories=Path(keys.text("repository", "ROOT", "/data/git/repositories")),
        install_lock=keys.truth("security", "INSTALL_LOCK"),
        internal_token=keys.text("security", "INTERNAL_TOKEN", ""),
        min_password_length=keys.number("security", "MIN_PASSWORD_LENGTH", 8),
        metrics_enabled=keys.truth("metrics", "ENABLED"),
        metrics_token=keys.text("metrics", "TOKEN", ""),
        grace_seconds=keys.seconds("server", "GRACEFUL_HAMMER_TIME", 60.0),
        cache=keys.text("cache", "HOST", "") if keys.text("cache", "ADAPTER", "memory") != "memory" else "",
        database=_database_from(keys),
        mail=_mail_from(keys),
    )


def _mail_from(keys: Keys) -> MailSettings:
    return MailSettings(
        enabled=keys.truth("mailer", "ENABLED"),
        starttls=keys.text("mailer", "PROTOCOL", "smtp+starttls") == "smtp+starttls",
        host=keys.text("mailer", "SMTP_ADDR", ""),
        port=keys.number("mailer", "SMTP_PORT", 587),
        sender=keys.text("mailer", "FROM", ""),
        user=keys.text("mailer", "USER", ""),
        password=keys.text("mailer", "PASSWD", ""),
    )


def _database_from(keys: Keys) -> DatabaseSettings:
    host, _, port = keys.text("database", "HOST", "127.0.0.1:5432").rpartition(":")
    return DatabaseSettings(
        kind=keys.text("database", "DB_TYPE", "sqlite3"),
        host=host or port,
        port=int(port) if host and port.isdigit() else 5432,
        name=keys.text("database", "NAME", "gitea"),
        user=keys.text("database", "USER", "gitea"),
        password=keys.text("database", "PASSWD", ""),
        retries=keys.number("database", "DB_RETRIES", 10),
        backoff=keys.seconds("database", "DB_RETRY_BACKOFF", 3.0),
    )


class Keys:
    """Typed look-ups in sections; a value of the wrong type counts as absent."""

    def __init__(self, sections: Sections) -> None:
        self._sections = sections

    def text(self, section: str, key: str, default: str) -> str:
        """The value, or `default` when it is absent or empty."""
        return self._sections.get(section, {}).get(key, "") or default

    def truth(self, section: str, key: str) -> bool:
        """Whether the value is one of Go's and Gitea's spellings of true."""
        return self.text(section, key, "").lower() in {"1", "t", "true", "y", "yes", "on"}

    def number(self, section: str, key: str, default: int) -> int:
        """The value as a whole number."""
        value = self.text(section, key, "")
        return int(value) if value.lstrip("-").isdigit() else default

    def seconds(self, section: str, key: str, default: float) -> float:
        """A duration in Go's notation (90, 3s, 2m, 500ms) in seconds."""
        value = self.text(section, key, "")
        for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)):
            if value.endswith(unit) and _is_decimal(value[: len(value) - len(unit)]):
                return float(value[: len(value) - len(unit)]) * factor
        return default


def _is_decimal(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
