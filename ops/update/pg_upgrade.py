"""A database gets a copy of itself in another major version of PostgreSQL, made beside it, compared, and put in its place.

One major version cannot read another's files, but a dump that the older one writes can be expected to load into a newer one
(PostgreSQL's manual, "pg_dump"). The old database is read and not touched.
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
# Of so many differences the first are told.
_TOLD = 5
_TABLES = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'"
# A checksum of all rows, in no order: each row's text is digested, and the digests' first 60 bits are summed.
_ROWS = (
    "SELECT count(*), coalesce(sum(('x' || substr(md5(each::text), 1, 15))::bit(60)::bigint), 0) FROM {table} AS each"
)
# What else there is, and what is said of it in one line. PostgreSQL 18 began to count NOT NULL among a table's constraints.
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
    """Make the copy, in a folder of its own, and compare it to the last row.

    Raises OpsError when it cannot be made, or is not what it was made of; the database that is copied stays as it is.
    """
    at, there, world = run.at, run.pending.move.there, run.at.world
    clear(at)
    world.btrfs.make(at.anew / POSTGRES)
    world.btrfs.own_like(at.paths.data / POSTGRES, at.anew / POSTGRES)
    _compose(at, "up", "--detach", "--pull", "never", "postgres", image=there)
    _await(at, there)
    old = world.containers.name(at.paths.project, "postgres")
    world.tell(f"the database is copied to {there.tag}")
    copied = world.processes.pipe(
        postgres.dump(old), postgres.load(_SERVER, postgres.USER), environment={}, tell=lambda _: None
    )
    if copied.code:
        raise OpsError(f"{there.tag} does not take the database: {' '.join(copied.output.split())[-400:]}")
    with world.postgres.session(old) as before, world.postgres.session(_SERVER) as after:
        # A new server knows nothing yet of what it has, and would plan its queries badly.
        after.ask("ANALYZE")
        world.tell("the copy is compared")
        found = differences(content(before), content(after))
    if found:
        more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise OpsError(f"the copy is not the database that it was made of: {'; '.join(found[:_TOLD])}{more}")
    _compose(at, "stop")


def switch(run: Run) -> None:
    """Put the copy in the database's place, and that in the copy's, at once."""
    at = run.at
    at.world.containers.stop(at.paths.project, "postgres")
    at.world.btrfs.exchange(at.anew / POSTGRES, at.paths.data / POSTGRES)


def clear(at: UpdateContext) -> None:
    """Remove what a conversion has made or replaced; nothing is no error. What pictures have stays.

    What cannot be removed is told of: it is in the way of the next conversion alone.
    """
    try:
        _compose(at, "down", "--volumes", "--timeout", "1")
        at.world.btrfs.remove(at.anew / POSTGRES)
        at.world.btrfs.remove(at.anew)
    except OpsError as error:
        at.world.tell(f"left behind: {error.message}")


def content(session: Session) -> dict[str, str]:
    """Return every table, sequence, view, index and constraint by its name, and what is to be the same of it in a copy."""
    found = {}
    for (table,) in session.ask(_TABLES):
        ((count, checksum),) = session.ask(_ROWS.format(table=table))
        found[f"table {table}"] = f"{count} rows ({checksum})"
    for kind, statement in _KINDS.items():
        found |= {f"{kind} {name}": said for name, said in session.ask(statement)}
    return found


def foreign_objects(session: Session) -> tuple[str, ...]:
    """Return what else a server has that is not Gitea's, and that a copy of its database would be without.

    What a restore has kept aside is left behind without a word: the pictures have it.
    """
    known = {postgres.USER, staging.ASIDE, staging.STAGED}
    databases = session.ask("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'")
    roles = session.ask(r"SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\_%'")
    return (
        *(f"database {name}" for (name,) in databases if name not in known),
        *(f"role {name}" for (name,) in roles if name not in known),
    )


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return in what a copy is not what it was made of, as sentences."""
    return [
        f"{name}: {before.get(name, 'not there')} became {after.get(name, 'not there')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _await(at: UpdateContext, there: Pin) -> None:
    """Wait until the new server is well; raises OpsError with its last words as soon as it ends."""
    world, began, minutes = at.world, at.world.clock.monotonic(), at.site.update.healthy_minutes
    while not any(each.health == "healthy" for each in world.containers.services(PROJECT)):
        if words := world.containers.exit_log(_SERVER):
            raise OpsError(f"{there.tag} makes no database: {' '.join(words.split())[-400:]}")
        if world.clock.monotonic() - began > 60 * minutes:
            raise OpsError(f"{there.tag} has made no database after {minutes} min")
        world.clock.sleep(0.25)


def _compose(at: UpdateContext, *arguments: str, image: Pin | None = None) -> None:
    """Run Compose on the server beside, which is made of an image; raises OpsError with its words."""
    files = compose_files.files(at.compose, "conversion.yaml")
    argv = ["docker", "compose", "--progress", "quiet", "--project-name", PROJECT, *files, *arguments]
    environment = {"DATA_DIRECTORY": str(at.anew)} | ({"POSTGRES_IMAGE": str(image)} if image else {})
    done = at.world.processes.run(argv, directory=at.compose, environment=environment)
    if done.code:
        raise OpsError(f"a database beside the site's: {' '.join(done.output.split())[-400:]}")
