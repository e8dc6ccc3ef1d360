"""The settings of app.ini that the suite owns: a site file that has one is refused, with the reason and the alternative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Owner:
    """The reason why the suite owns some settings, and the remedy for a site file that has one of them."""

    settings: Sequence[str]
    reason: str
    remedy: str


_REMOVE = "remove it"
_STORED = (
    "backups, restores and updates know Gitea's files where its image has them",
    f"{_REMOVE}; host.data_gib enlarges the data disk",
)

# Patterns of SECTION.KEY; the section is DEFAULT for the keys before the first one.
OWNERS = (
    Owner(("DEFAULT.APP_NAME",), "it is the site's title", "set gitea.title instead"),
    Owner(
        ("DEFAULT.RUN_USER", "DEFAULT.RUN_MODE", "DEFAULT.WORK_PATH"), "the image of Gitea has one that works", _REMOVE
    ),
    Owner(
        (
            *(
                "database.DB_TYPE",
                "database.HOST",
                "database.NAME",
                "database.USER",
                "database.PASSWD",
                "database.PATH",
            ),
            *("database.SCHEMA", "database.SSL_MODE", "database.CHARSET*", "database.SQLITE_*"),
        ),
        "the database is the site's own PostgreSQL",
        _REMOVE,
    ),
    Owner(("database.AUTO_MIGRATION",), "an update migrates the database when Gitea starts", _REMOVE),
    Owner(
        (
            "server.DOMAIN",
            "server.ROOT_URL",
            "server.SSH_DOMAIN",
            "server.PUBLIC_URL_DETECTION",
            "server.USE_SUB_URL_PATH",
        ),
        "it follows from the site's domain",
        "set domain instead",
    ),
    Owner(("server.SSH_PORT",), "it is the port of git over ssh", "set gitea.ssh_port instead"),
    Owner(
        (
            *("server.PROTOCOL", "server.HTTP_ADDR", "server.HTTP_PORT", "server.UNIX_SOCKET_PERMISSION"),
            *(
                "server.LOCAL_ROOT_URL",
                "server.*PROXY_PROTOCOL*",
                "server.REDIRECT_OTHER_PORT",
                "server.PORT_TO_REDIRECT",
            ),
        ),
        "nginx reaches Gitea over HTTP on port 3000",
        _REMOVE,
    ),
    Owner(
        (
            "server.CERT_FILE",
            "server.KEY_FILE",
            "server.ENABLE_ACME",
            "server.ENABLE_LETSENCRYPT",
            "server.ACME_*",
            "server.SSL_*",
        ),
        "nginx has the certificate and ends TLS",
        "set [tls] instead",
    ),
    Owner(
        (
            *("server.DISABLE_SSH", "server.START_SSH_SERVER", "server.BUILTIN_SSH_SERVER_USER", "server.SSH_USER"),
            *("server.SSH_LISTEN_*", "server.SSH_ROOT_PATH", "server.SSH_CREATE_AUTHORIZED_KEYS_FILE"),
            *("server.SSH_AUTHORIZED_KEYS_COMMAND_TEMPLATE", "server.SSH_SERVER_*", "server.SSH_KEYGEN_PATH"),
        ),
        "git over ssh is served by the image's OpenSSH, which ops health checks",
        "remove it; limits.ssh_logins and its neighbours set limits",
    ),
    Owner(
        ("server.LFS_START_SERVER", "repository.DISABLE_HTTP_GIT"),
        "an update is judged by a clone over HTTP and by an LFS object",
        _REMOVE,
    ),
    Owner(
        ("server.GRACEFUL_HAMMER_TIME", "server.ALLOW_GRACEFUL_RESTARTS", "server.STARTUP_TIMEOUT"),
        "ops stops and starts Gitea, within the time that its container has",
        _REMOVE,
    ),
    Owner(
        (
            *("server.APP_DATA_PATH", "server.APP_TEMP_PATH", "server.STATIC_ROOT_PATH", "server.PPROF_DATA_PATH"),
            *("server.LFS_CONTENT_PATH", "repository.ROOT", "repository.local.*", "repository.upload.TEMP_PATH"),
            *("git.PATH", "git.HOME_PATH", "log.ROOT_PATH", "indexer.*_PATH", "queue.DATADIR", "queue.*.DATADIR"),
            *("picture.*UPLOAD_PATH", "picture.*STORAGE_TYPE", "packages.CHUNKED_UPLOAD_PATH"),
            *("storage.*", "*.STORAGE_TYPE", "*.PATH", "*.SERVE_DIRECT", "*.MINIO_*", "*.AZURE_BLOB_*"),
        ),
        *_STORED,
    ),
    Owner(("security.INSTALL_LOCK",), "without it the first visitor could install Gitea again", _REMOVE),
    Owner(
        (
            *("security.SECRET_KEY*", "security.INTERNAL_TOKEN*", "oauth2.JWT_SECRET*", "server.LFS_JWT_SECRET*"),
            "metrics.TOKEN",
        ),
        "it is a secret that the suite or Gitea makes",
        "remove it; ops secrets rotate NAME gives a secret of the site a new value",
    ),
    Owner(("metrics.ENABLED",), "monitoring reads the metrics", _REMOVE),
    Owner(
        ("security.REVERSE_PROXY_*", "service.ENABLE_REVERSE_PROXY_*"),
        "nginx passes on what a visitor sends, who could sign in as anybody",
        "remove it; add an authentication source on Gitea's page instead",
    ),
    Owner(
        ("service.ENABLE_BASIC_AUTHENTICATION", "security.TWO_FACTOR_AUTH"),
        "ops signs in as the administrator with the password alone",
        "remove it; service.ENABLE_PASSWORD_SIGNIN_FORM hides the form from users",
    ),
    Owner(
        (
            *(
                "mailer.ENABLED",
                "mailer.PROTOCOL",
                "mailer.SMTP_ADDR",
                "mailer.SMTP_PORT",
                "mailer.FROM",
                "mailer.USER",
            ),
            *("mailer.PASSWD", "mailer.HOST", "mailer.MAILER_TYPE", "mailer.IS_TLS_ENABLED", "mailer.SENDMAIL_*"),
            *("mailer.*CERT*", "mailer.CLIENT_KEY_FILE"),
        ),
        "mails go through the site's mail server",
        "set mail.sender, mail.smtp_host and mail.smtp_port instead",
    ),
    Owner(
        ("attachment.MAX_SIZE", "repository.upload.FILE_MAX_SIZE", "repository.release.FILE_MAX_SIZE"),
        "nginx has the same limit",
        "set gitea.upload_limit_mib instead",
    ),
    Owner(
        ("log.MODE", "log.console.MODE", "log.*.STDERR"),
        "the log goes to the container's output, which the host keeps and rotates",
        "remove it; log.LEVEL may be set",
    ),
)


def owner_of(section: str, key: str) -> Owner | None:
    """Return the owner of a setting; None for one that a site may choose. Gitea's keys are in upper case."""
    name = f"{section}.{key.upper()}"
    return next((each for each in OWNERS if any(fnmatchcase(name, pattern) for pattern in each.settings)), None)
