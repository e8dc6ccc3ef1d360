"""Upgrade to another major version of PostgreSQL: copy the database into a second server, compare, and exchange both.

A major version cannot read the files of another, but a dump of the older one can be expected to load into the newer one
(PostgreSQL's manual, "pg_dump"). The old database is only read.
"""

from __future__ import annotations

from collections.abc import Mapping

from ops.config import compose_files
from ops.errors import OpsError
from ops.images.pins import Pin
from ops.restore import staging
from ops.update.journal import Run, UpdateContext
from ops.world import postgres
from ops.world.postgres import Session

PROJECT = "gitea-conversion"
POSTGRES = "postgresql"
_SERVER = f"{PROJECT}-postgres-1"
# The number of differences in the error message.
_SHOWN = 5
_TABLES = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'"
# A checksum of all rows that ignores their order: the sum of the first 60 bits of each row's MD5.
_ROWS = (
    "SELECT count(*), coalesce(sum(('x' || substr(md5(each::text), 1, 15))::bit(60)::bigint), 0) FROM {table} AS each"
)
# The name and the one-line definition of every other object. NOT NULL counts as a constraint only since PostgreSQL 18.
_KINDS = {
    "sequence": "SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value, 0) FROM pg_sequences "
    "WHERE schemaname !~ '^(pg_|information_schema)'",
    "view": "SELECT format('%I.%I', schemaname, viewname), '' FROM pg_views WHERE schemaname !~ '^(pg_|information_schema)'",
    "index": r"SELECT format('%I.%I', schemaname, indexname), regexp_replace(indexdef, '\s+', ' ', 'g') FROM pg_indexes "
    "WHERE schemaname !~ '^(pg_|information_schema)'",
    "constraint": "SELECT format('%s of %s', conname, conrelid::regclass), "
    r"regexp_replace(pg_get_constraintdef(pg_constraint.oid), '\s+', ' ', 'g') FROM pg_constraint "
    "JOIN pg_namespace ON pg_namespace.oid = connamespace "
    "WHERE nspname !~ '^(pg_|information_schema)' AND contype IN ('c', 'f', 'p', 'u', 'x')",
}


def convert(run: Run) -> None:
    """Copy the database into a folder of its own and compare the copy to the last row.

    Raises OpsError if the copy fails or differs; the source database stays unchanged.
    """
    at, target, world = run.at, run.pending.planned.target, run.at.world
    clear(at)
    world.btrfs.make(at.pg_upgrade_folder / POSTGRES)
    world.btrfs.own_like(at.paths.data / POSTGRES, at.pg_upgrade_folder / POSTGRES)
    _compose(at, "up", "--detach", "--pull", "never", "postgres", image=target)
    _await_healthy(at, target)
    old = world.containers.name(at.paths.project, "postgres")
    world.tell(f"copying the database to PostgreSQL {target.tag}")
    copied = world.processes.pipe(
        postgres.dump(old), postgres.load(_SERVER, postgres.USER), environment={}, tell=lambda _: None
    )
    if copied.code:
        raise OpsError(f"PostgreSQL {target.tag} cannot load the database: {' '.join(copied.output.split())[-400:]}")
    with world.postgres.session(old) as before, world.postgres.session(_SERVER) as after:
        # A new server has no statistics yet and would plan its queries badly.
        after.ask("ANALYZE")
        world.tell("comparing the copy")
        found = differences(content(before), content(after))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise OpsError(f"the copied database differs from the source: {'; '.join(found[:_SHOWN])}{more}")
    _compose(at, "stop")


def switch(run: Run) -> None:
    """Stop PostgreSQL and exchange the database's folder with the copy's, atomically."""
    at = run.at
    at.world.containers.stop(at.paths.project, "postgres")
    at.world.btrfs.exchange(at.pg_upgrade_folder / POSTGRES, at.paths.data / POSTGRES)


def clear(at: UpdateContext) -> None:
    """Remove the second server and the copy or the old database, if they exist. Snapshots stay.

    Leftovers that cannot be removed are only reported: they affect nothing but the next upgrade.
    """
    try:
        _compose(at, "down", "--volumes", "--timeout", "1")
        at.world.btrfs.remove(at.pg_upgrade_folder / POSTGRES)
        at.world.btrfs.remove(at.pg_upgrade_folder)
    except OpsError as error:
        at.world.tell(f"the leftovers of the upgrade cannot be removed: {error.message}")


def content(session: Session) -> dict[str, str]:
    """Return every table, sequence, view, index and constraint by its name, with the content that a copy must reproduce."""
    found = {}
    for (table,) in session.ask(_TABLES):
        ((count, checksum),) = session.ask(_ROWS.format(table=table))
        found[f"table {table}"] = f"{count} rows ({checksum})"
    for kind, statement in _KINDS.items():
        found |= {f"{kind} {name}": definition for name, definition in session.ask(statement)}
    return found


def foreign_objects(session: Session) -> tuple[str, ...]:
    """Return the databases and roles that are not Gitea's, which a copy of Gitea's database would not contain.

    Databases that a restore keeps aside do not count: the snapshots contain them.
    """
    own = {postgres.USER, staging.ASIDE, staging.STAGED}
    databases = session.ask("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'")
    roles = session.ask(r"SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\_%'")
    return (
        *(f"database {name}" for (name,) in databases if name not in own),
        *(f"role {name}" for (name,) in roles if name not in own),
    )


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return each difference between a source database and its copy, as sentences."""
    return [
        f"{name}: {before.get(name, 'missing')} became {after.get(name, 'missing')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _await_healthy(at: UpdateContext, target: Pin) -> None:
    """Wait until the new server is healthy; raises OpsError with the end of its output as soon as it exits."""
    world, began, minutes = at.world, at.world.clock.monotonic(), at.site.update.healthy_minutes
    while not any(each.health == "healthy" for each in world.containers.services(PROJECT)):
        if output := world.containers.exit_log(_SERVER):
            raise OpsError(f"PostgreSQL {target.tag} creates no database: {' '.join(output.split())[-400:]}")
        if world.clock.monotonic() - began > 60 * minutes:
            raise OpsError(f"PostgreSQL {target.tag} created no database within {minutes} min")
        world.clock.sleep(0.25)


def _compose(at: UpdateContext, *arguments: str, image: Pin | None = None) -> None:
    """Run Compose on the second server, with the given image; raises OpsError with its output."""
    files = compose_files.files(at.compose, "conversion.yaml")
    argv = ["docker", "compose", "--progress", "quiet", "--project-name", PROJECT, *files, *arguments]
    environment = {"DATA_DIRECTORY": str(at.pg_upgrade_folder)} | ({"POSTGRES_IMAGE": str(image)} if image else {})
    done = at.world.processes.run(argv, directory=at.compose, environment=environment)
    if done.code:
        raise OpsError(f"the second database server: {' '.join(done.output.split())[-400:]}")
