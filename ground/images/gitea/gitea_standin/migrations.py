"""The database's schema: creates it, migrates an older one, refuses a newer one.

The numbers of 1.22, 1.26 and 1.27 are Gitea's, and so are the migrations with a title up to 319; the statements are the
stand-in's own. As in Gitea, `version` holds the number of the newest applied migration plus one, and a migration is not a
transaction: its statements take effect one by one, and a crash leaves the first ones applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import log
from .database import Connection
from .release import Release

_OLDEST, _NEWEST = 299, 353
_WHERE = "models/migrations/migrations.go:Migrate()"
_SCHEMA = Path(__file__).with_name("schema.sql")


@dataclass(frozen=True)
class Migration:
    """One migration; its statements run in order, each in effect at once."""

    number: int
    title: str
    statements: tuple[str, ...]


# Those that are not listed change tables that the stand-in does not have. Those from 343 on are invented.
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    299: (
        "Add content version to issue and comment table",
        "ALTER TABLE issue ADD COLUMN content_version integer NOT NULL DEFAULT 0",
        "ALTER TABLE comment ADD COLUMN content_version integer NOT NULL DEFAULT 0",
    ),
    303: ("Add metadata column for comment table", "ALTER TABLE comment ADD COLUMN comment_meta_data text"),
    305: (
        "Add Repository Licenses",
        "CREATE TABLE repo_license (id bigserial PRIMARY KEY, repo_id bigint NOT NULL, license varchar(255))",
    ),
    311: ("Add TimeEstimate to Issue table", "ALTER TABLE issue ADD COLUMN time_estimate bigint NOT NULL DEFAULT 0"),
    313: (
        "Move PinOrder from issue table to a new table issue_pin",
        "CREATE TABLE issue_pin (id bigserial PRIMARY KEY, repo_id bigint, issue_id bigint, pin_order integer)",
    ),
    318: (
        "Add anonymous_access_mode for repo_unit",
        "ALTER TABLE repo_unit ADD COLUMN anonymous_access_mode integer NOT NULL DEFAULT 0",
    ),
    319: ("Add ExclusiveOrder to Label table", "ALTER TABLE label ADD COLUMN exclusive_order integer DEFAULT 0"),
    343: ("Add index on repository updated_unix", "CREATE INDEX repository_updated ON repository (updated_unix)"),
    344: (
        "Record when an access token was used last",
        "ALTER TABLE access_token ADD COLUMN last_used_unix bigint NOT NULL DEFAULT 0",
    ),
    347: (
        "Add egress policy table",
        "CREATE TABLE egress_policy (id bigserial PRIMARY KEY, host varchar(255) NOT NULL)",
    ),
    348: ("Normalise e-mail addresses", 'UPDATE "user" SET email = lower(email)'),
    349: ("Add time zone to users", "ALTER TABLE \"user\" ADD COLUMN timezone varchar(64) NOT NULL DEFAULT ''"),
    351: (
        "Add last activity to users",
        'ALTER TABLE "user" ADD COLUMN last_activity_unix bigint NOT NULL DEFAULT 0',
        'UPDATE "user" SET last_activity_unix = coalesce(last_login_unix, 0)',
    ),
    352: ("Add index on issue poster", "CREATE INDEX issue_poster ON issue (poster_id)"),
    353: (
        "Add audit event table",
        "CREATE TABLE audit_event (id bigserial PRIMARY KEY, event_type varchar(64), created_unix bigint)",
    ),
}
_ELSEWHERE = ("Change tables that the stand-in does not have",)
MIGRATIONS = tuple(
    Migration(number, title, tuple(statements))
    for number in range(_OLDEST, _NEWEST + 1)
    for title, *statements in [_MIGRATIONS.get(number, _ELSEWHERE)]
)


class MigrationError(Exception):
    """The database cannot be used by this release; the message is Gitea's."""


def _pending(current: int, wanted: int) -> list[Migration]:
    return [step for step in MIGRATIONS if current <= step.number < wanted]


def current_version(connection: Connection) -> int | None:
    """The database's version; None for a database without Gitea's tables."""
    table = connection.execute("SELECT to_regclass('version') AS name").fetchone()
    if table["name"] is None:
        return None
    row = connection.execute("SELECT version FROM version WHERE id = 1").fetchone()
    return int(row["version"]) if row else None


def migrate(connection: Connection, release: Release) -> None:
    """Migrates the database to `release`. Raises MigrationError when it is newer."""
    current = current_version(connection)
    if current is None:
        _install(connection, release)
        return
    if current > release.database_version:
        raise MigrationError(_refusal(current, release.database_version))
    for step in _pending(current, release.database_version):
        log.info(_WHERE, f"Migration[{step.number}]: {step.title}")
        for statement in step.statements:
            connection.execute(statement)
        connection.execute("UPDATE version SET version = %s WHERE id = 1", (step.number + 1,))


def _install(connection: Connection, release: Release) -> None:
    # As in Gitea, a new database gets the newest tables and no migration is logged.
    with connection.transaction():
        connection.execute("CREATE TABLE IF NOT EXISTS version (id bigserial PRIMARY KEY, version bigint)")
        for statement in _SCHEMA.read_text().removesuffix(";\n").split(";\n"):
            connection.execute(statement)
        for step in _pending(_OLDEST, release.database_version):
            for statement in step.statements:
                connection.execute(statement)
        connection.execute("INSERT INTO version (version) VALUES (%s)", (release.database_version,))


def _refusal(current: int, newest: int) -> str:
    return (
        f"Your database (migration version: {current}) is for a newer Gitea, you can not use the newer database "
        f"for this old Gitea release ({newest}).\n"
        "Gitea will exit to keep your database safe and unchanged. Please use the correct Gitea release, "
        "do not change the migration version manually (incorrect manual operation may lose data)."
    )
