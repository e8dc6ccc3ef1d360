"""The database's schema: creates it, migrates an older one, refuses a newer one.

Numbers and titles up to 314 are Gitea's, so that logs read alike; the statements are the stand-in's own. As in Gitea,
`version` holds the number of the newest applied migration plus one, and a migration is not a transaction: its statements
take effect one by one, and a crash leaves the first ones applied.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import log
from .database import Connection
from .release import Fault, Release

OLDEST = 299
_WHERE = "models/migrations/migrations.go:Migrate()"

BASE = (
    """CREATE TABLE "user" (
        id bigserial PRIMARY KEY, lower_name varchar(255) UNIQUE NOT NULL, name varchar(255) UNIQUE NOT NULL,
        full_name varchar(255) NOT NULL DEFAULT '', email varchar(255) UNIQUE NOT NULL, passwd varchar(255) NOT NULL,
        passwd_hash_algo varchar(255) NOT NULL, salt varchar(32) NOT NULL, must_change_password boolean NOT NULL,
        is_active boolean NOT NULL DEFAULT true, is_admin boolean NOT NULL DEFAULT false,
        type integer NOT NULL DEFAULT 0, description varchar(255) NOT NULL DEFAULT '',
        visibility varchar(16) NOT NULL DEFAULT 'public',
        is_restricted boolean NOT NULL DEFAULT false, prohibit_login boolean NOT NULL DEFAULT false,
        created_unix bigint NOT NULL, updated_unix bigint NOT NULL, last_login_unix bigint NOT NULL DEFAULT 0)""",
    """CREATE TABLE repository (
        id bigserial PRIMARY KEY, owner_id bigint NOT NULL, owner_name varchar(255) NOT NULL,
        lower_name varchar(255) NOT NULL, name varchar(255) NOT NULL, description text NOT NULL DEFAULT '',
        default_branch varchar(255) NOT NULL, is_private boolean NOT NULL, is_empty boolean NOT NULL,
        is_archived boolean NOT NULL DEFAULT false, size bigint NOT NULL DEFAULT 0,
        created_unix bigint NOT NULL, updated_unix bigint NOT NULL, UNIQUE (owner_id, lower_name))""",
    """CREATE TABLE issue (
        id bigserial PRIMARY KEY, repo_id bigint NOT NULL, "index" bigint NOT NULL, poster_id bigint NOT NULL,
        name text NOT NULL, content text NOT NULL DEFAULT '', is_closed boolean NOT NULL DEFAULT false,
        is_pull boolean NOT NULL DEFAULT false, created_unix bigint NOT NULL, updated_unix bigint NOT NULL,
        UNIQUE (repo_id, "index"))""",
    "CREATE TABLE issue_index (group_id bigint PRIMARY KEY, max_index bigint NOT NULL)",
    """CREATE TABLE public_key (
        id bigserial PRIMARY KEY, owner_id bigint NOT NULL, name varchar(255) NOT NULL,
        fingerprint varchar(255) UNIQUE NOT NULL, content text NOT NULL, mode integer NOT NULL DEFAULT 2,
        type integer NOT NULL DEFAULT 1, created_unix bigint NOT NULL, updated_unix bigint NOT NULL)""",
    """CREATE TABLE access_token (
        id bigserial PRIMARY KEY, uid bigint NOT NULL, name varchar(255) NOT NULL, token_hash varchar(255) NOT NULL,
        token_salt varchar(32) NOT NULL, token_last_eight varchar(8) NOT NULL, scope text NOT NULL,
        created_unix bigint NOT NULL, updated_unix bigint NOT NULL, UNIQUE (uid, name))""",
    """CREATE TABLE action_runner_token (
        id bigserial PRIMARY KEY, token varchar(255) UNIQUE NOT NULL, owner_id bigint NOT NULL DEFAULT 0,
        repo_id bigint NOT NULL DEFAULT 0, is_active boolean NOT NULL, created bigint NOT NULL)""",
    """CREATE TABLE comment (
        id bigserial PRIMARY KEY, type integer NOT NULL DEFAULT 0, poster_id bigint NOT NULL,
        issue_id bigint NOT NULL REFERENCES issue ON DELETE CASCADE, content text,
        created_unix bigint NOT NULL, updated_unix bigint NOT NULL)""",
    """CREATE TABLE label (
        id bigserial PRIMARY KEY, repo_id bigint NOT NULL REFERENCES repository ON DELETE CASCADE,
        name varchar(255) NOT NULL, description varchar(255) NOT NULL, color varchar(10) NOT NULL)""",
    """CREATE TABLE issue_label (
        id bigserial PRIMARY KEY, issue_id bigint NOT NULL REFERENCES issue ON DELETE CASCADE,
        label_id bigint NOT NULL REFERENCES label ON DELETE CASCADE)""",
    """CREATE TABLE release (
        id bigserial PRIMARY KEY, repo_id bigint NOT NULL REFERENCES repository ON DELETE CASCADE,
        tag_name varchar(255) NOT NULL, title varchar(255), note text, sha1 varchar(64), publisher_id bigint,
        lower_tag_name varchar(255), target varchar(255), num_commits bigint, created_unix bigint,
        is_draft boolean NOT NULL DEFAULT false, is_prerelease boolean NOT NULL DEFAULT false,
        is_tag boolean NOT NULL DEFAULT false, UNIQUE (repo_id, tag_name))""",
    """CREATE TABLE attachment (
        id bigserial PRIMARY KEY, uuid varchar(36) UNIQUE NOT NULL, name varchar(255) NOT NULL, size bigint NOT NULL,
        repo_id bigint NOT NULL REFERENCES repository ON DELETE CASCADE, issue_id bigint NOT NULL DEFAULT 0,
        release_id bigint NOT NULL DEFAULT 0)""",
    """CREATE TABLE pull_request (
        id bigserial PRIMARY KEY, issue_id bigint NOT NULL REFERENCES issue ON DELETE CASCADE,
        head_branch varchar(255) NOT NULL, base_branch varchar(255) NOT NULL)""",
    """CREATE TABLE lfs_meta_object (
        id bigserial PRIMARY KEY, oid varchar(255) NOT NULL, size bigint NOT NULL,
        repository_id bigint NOT NULL REFERENCES repository ON DELETE CASCADE, UNIQUE (oid, repository_id))""",
    """CREATE TABLE package_file (
        id bigserial PRIMARY KEY, owner_id bigint NOT NULL REFERENCES "user", package varchar(255) NOT NULL,
        version varchar(255) NOT NULL, name varchar(255) NOT NULL, hash_sha256 varchar(64) NOT NULL,
        UNIQUE (owner_id, package, version, name))""",
)


@dataclass(frozen=True)
class Migration:
    """One migration; its statements run in order, each in effect at once."""

    number: int
    title: str
    statements: tuple[str, ...]


# Migrations that are not listed here change tables that the stand-in does not have.
_STATEMENTS = {
    299: [
        f"ALTER TABLE {table} ADD COLUMN content_version integer NOT NULL DEFAULT 0" for table in ("issue", "comment")
    ],
    305: ["CREATE TABLE repo_license (id bigserial PRIMARY KEY, repo_id bigint NOT NULL, license varchar(255))"],
    311: ["ALTER TABLE issue ADD COLUMN time_estimate bigint NOT NULL DEFAULT 0"],
    313: ["CREATE TABLE issue_pin (id bigserial PRIMARY KEY, repo_id bigint, issue_id bigint, pin_order integer)"],
    321: ["ALTER TABLE issue ALTER COLUMN name TYPE varchar(255)"],
    325: ["CREATE INDEX issue_updated ON issue (updated_unix)"],
    328: ["CREATE INDEX repository_updated ON repository (updated_unix)"],
    329: ["ALTER TABLE access_token ADD COLUMN last_used_unix bigint NOT NULL DEFAULT 0"],
    331: [
        "ALTER TABLE repository ADD COLUMN num_issues bigint NOT NULL DEFAULT 0",
        "UPDATE repository r SET num_issues = (SELECT count(*) FROM issue i WHERE i.repo_id = r.id)",
    ],
    332: ["CREATE TABLE egress_policy (id bigserial PRIMARY KEY, host varchar(255) NOT NULL)"],
    333: ['UPDATE "user" SET email = lower(email)'],
    334: ["ALTER TABLE \"user\" ADD COLUMN timezone varchar(64) NOT NULL DEFAULT ''"],
    336: [
        'ALTER TABLE "user" ADD COLUMN last_activity_unix bigint NOT NULL DEFAULT 0',
        'UPDATE "user" SET last_activity_unix = last_login_unix',
    ],
    337: ["CREATE INDEX issue_poster ON issue (poster_id)"],
    338: ["CREATE TABLE audit_event (id bigserial PRIMARY KEY, event_type varchar(64), created_unix bigint)"],
    # After the rename a rollback needs the old database: older releases read `content`.
    339: [
        "ALTER TABLE issue RENAME COLUMN content TO body",
        "ALTER TABLE issue ADD COLUMN body_format varchar(16) NOT NULL DEFAULT 'markdown'",
        "UPDATE issue SET body_format = 'plain' WHERE body = ''",
    ],
}
_TITLES = """\
299 Add content version to issue and comment table
300 Add force-push branch protection support
301 Add skip_secondary_authorization option to oauth2 application table
302 Add index to action_task stopped log_expired
303 Add metadata column for comment table
304 Add index for release sha1
305 Add Repository Licenses
306 Add BlockAdminMergeOverride to ProtectedBranch
307 Fix milestone deadline_unix when there is no due date
308 Add index(user_id, is_deleted) for action table
309 Improve Notification table indices
310 Add Priority to ProtectedBranch
311 Add TimeEstimate to Issue table
312 Add DeleteBranchAfterMerge to AutoMerge
313 Move PinOrder from issue table to a new table issue_pin
314 Add star lists
315 Add Ephemeral to ActionRunner
316 Add description for secrets and variables
317 Add new index for action for heatmap
318 Add anonymous_access_mode for repo_unit
319 Add ExclusiveOrder to Label table
320 Migrate two_factor_policy to login_source table
321 Widen text columns of issues
322 Extend comment tree_path length limit
323 Add support for actions concurrency
324 Fix closed milestone completeness
325 Add index on issue updated_unix
326 Migrate commit status target URL
327 Add disabled state to runners
328 Add index on repository updated_unix
329 Record when an access token was used last
330 Add run retention to actions
331 Count issues on the repository
332 Add egress policy table
333 Normalise e-mail addresses
334 Add time zone to users
335 Drop unused columns of oauth2 grants
336 Add last activity to users
337 Add index on issue poster
338 Add audit event table
339 Move issue content to body
"""
MIGRATIONS = tuple(
    Migration(int(number), title, tuple(_STATEMENTS.get(int(number), ())))
    for number, _, title in (line.partition(" ") for line in _TITLES.splitlines())
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
    """Migrates the database to `release`. Raises MigrationError when it is newer, SystemExit when the release crashes."""
    current = current_version(connection)
    if current is None:
        _install(connection, release)
        return
    if current > release.database_version:
        raise MigrationError(_refusal(current, release.database_version))
    for step in _pending(current, release.database_version):
        log.info(_WHERE, f"Migration[{step.number}]: {step.title}")
        _run(connection, step, release)
        connection.execute("UPDATE version SET version = %s WHERE id = 1", (step.number + 1,))
    if release.fault is Fault.FORGETS:
        connection.execute("ALTER TABLE comment DROP COLUMN content")
        connection.execute("ALTER TABLE comment ADD COLUMN content text")


def _install(connection: Connection, release: Release) -> None:
    # As in Gitea, a new database gets the newest tables and no migration is logged.
    with connection.transaction():
        connection.execute("CREATE TABLE IF NOT EXISTS version (id bigserial PRIMARY KEY, version bigint NOT NULL)")
        for statement in BASE:
            connection.execute(statement)
        for step in _pending(OLDEST, release.database_version):
            for statement in step.statements:
                connection.execute(statement)
        connection.execute("INSERT INTO version (version) VALUES (%s)", (release.database_version,))


def _run(connection: Connection, step: Migration, release: Release) -> None:
    for done, statement in enumerate(step.statements):
        last_step = step.number + 1 == release.database_version
        if release.fault is Fault.MIDMIGRATION and last_step and done > 0:
            log.fatal(_WHERE, f"migration[{step.number}]: {step.title} failed: runtime error: index out of range [1]")
        connection.execute(statement)


def _refusal(current: int, newest: int) -> str:
    return (
        f"Your database (migration version: {current}) is for a newer Gitea, you can not use the newer database "
        f"for this old Gitea release ({newest}).\n"
        "Gitea will exit to keep your database safe and unchanged. Please use the correct Gitea release, "
        "do not change the migration version manually (incorrect manual operation may lose data)."
    )
