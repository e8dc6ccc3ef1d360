"""The rows of every table and the filled values of its large columns, counted by SQL: before an update and after it.

This shares no code with the canary or with a backup's manifest: it reads the database's own catalog through psql.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ops.errors import OpsError
from ops.world import World
from ops.world.postgres import Session

# More than both of these must be gone before an update is taken back (docs/concepts/updates.md, "Lost data").
_MIN_LOSS = 10
_MIN_SHARE = 0.01
# Tables from which Gitea removes rows by itself, some of them at each start, and what is in them. Their losses are shown
# and never a reason to go back.
_SHORT_LIVED = frozenset(
    {
        "public.session",  # sign-ins
        "public.auth_token",  # sign-ins that are remembered
        "public.access_token",  # one of ops itself is among them
        "public.oauth2_authorization_code",  # sign-ins under way
        "public.repo_archiver",  # archives for download, made again on demand (cron.archive_cleanup)
        "public.branch",  # branches as git has them; rows of deleted ones go (cron.deleted_branches_cleanup)
        "public.package_blob",  # files that no package refers to go (cron.cleanup_packages)
        "public.package_blob_upload",  # uploads under way
        "public.upload",  # uploads under way
        "public.dbfs_data",  # logs of running jobs, which become files when the job ends
        "public.dbfs_meta",
        "public.hook_task",  # deliveries of web hooks (cron.cleanup_hook_task_table)
        "public.notice",  # messages to the administrator
    }
)
# Every table, the small ones first, and each of its columns of unlimited text or bytes (limited ones from 256 characters on).
# A table without such a column has one row with an empty column.
_CATALOG = (
    "SELECT format('%I.%I', nspname, relname) AS whole, coalesce(quote_ident(attname), '') FROM pg_class "
    "JOIN pg_namespace ON pg_namespace.oid = relnamespace LEFT JOIN pg_attribute ON attrelid = pg_class.oid "
    "AND attnum > 0 AND NOT attisdropped AND atttypid IN ('text'::regtype, 'bytea'::regtype, 'varchar'::regtype) "
    "AND (atttypmod < 0 OR atttypmod > 259) WHERE relkind IN ('r', 'p') AND relpersistence <> 't' "
    "AND nspname !~ '^(pg_|information_schema)' ORDER BY relpages, whole, attnum"
)


@dataclass(frozen=True)
class Counts:
    """The rows by table (``public.comment``) and the values by column (``public.comment.content``) that are not empty.

    ``uncounted`` are tables and columns that exist and were not counted within the time, ``migration`` is Gitea's number of
    the database, -1 if it could not be read.
    """

    counted: Mapping[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    migration: int = -1


@dataclass(frozen=True)
class Losses:
    """The difference of two counts: the removed tables and columns, those with fewer than before, and the losses.

    ``lost`` are those of the two that no migration and no user explains: an update goes back because of them.
    """

    removed: tuple[str, ...] = ()
    shrunk: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


def count(world: World, container: str, *, seconds: float) -> Counts:
    """Count in the database of a running container, for ``seconds`` at most; raises OpsError if it cannot be read.

    A count that takes longer is left out, with all that would have followed: tables are counted by size, small ones first.
    Lengths are read without the values, which PostgreSQL keeps apart from the rows once they are long.
    """
    deadline = world.clock.monotonic() + seconds
    with world.postgres.session(container) as session:
        ((number,),) = session.ask("SELECT version FROM version")
        columns = _columns(session)
        counted: dict[str, int] = {}
        for table in columns:
            left = deadline - world.clock.monotonic()
            if left <= 0 or (found := _count_table(session, table, columns[table], left)) is None:
                break
            counted |= found
    names = [name for table, own in columns.items() for name in (table, *(f"{table}.{each}" for each in own))]
    return Counts(counted, tuple(name for name in names if name not in counted), int(number))


def losses(before: Counts, after: Counts, accepted: Iterable[str] = ()) -> Losses:
    """Compare two counts. ``accepted`` are tables or columns that may lose everything, with or without their schema.

    A table or column that is gone is the work of a migration if one ran; if none ran, it is lost.
    """
    exempt = {*accepted, *(f"public.{each}" for each in accepted)}
    existing = {*after.counted, *after.uncounted}
    gone = tuple(name for name in before.counted if name not in existing)
    shrunk = _shrunk(before, after)
    lost = {name: _shrinkage(name, *pair) for name, pair in shrunk.items() if _is_beyond(*pair)}
    if before.migration == after.migration:
        lost |= {name: _removal(name, before.counted[name]) for name in gone}
    return Losses(gone, shrunk, tuple(line for name, line in lost.items() if not _is_exempt(name, exempt)))


def lines_of(found: Losses) -> tuple[str, ...]:
    """Return the removed and the shrunk tables and columns as sentences."""
    return (
        *(f"{name} is gone: the new version removed, renamed or narrowed it" for name in found.removed),
        *(_shrinkage(name, *numbers) for name, numbers in found.shrunk.items()),
    )


def _shrunk(before: Counts, after: Counts) -> dict[str, tuple[int, int]]:
    pairs = {name: (number, after.counted.get(name, number)) for name, number in before.counted.items()}
    return {name: pair for name, pair in pairs.items() if pair[1] < pair[0]}


def _columns(session: Session) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table, column in session.ask(_CATALOG):
        found.setdefault(table, [])
        if column:
            found[table].append(column)
    return found


def _count_table(session: Session, table: str, columns: list[str], seconds: float) -> dict[str, int] | None:
    """Return the counts of one table, None if they take more than ``seconds``; raises OpsError if it cannot be read."""
    filled = "".join(f", count(*) FILTER (WHERE octet_length({each}) > 0)" for each in columns)
    try:
        session.ask(f"SET statement_timeout = {max(1, int(seconds * 1000))}")
        ((rows, *values),) = session.ask(f"SELECT count(*) AS rows{filled} FROM {table}")  # noqa: S608 - quoted by PostgreSQL
    except OpsError as error:
        # psql ends at its first error, and this is its message.
        if "statement timeout" not in error.message:
            raise
        return None
    numbers = zip(columns, values, strict=True)
    return {table: int(rows), **{f"{table}.{column}": int(value) for column, value in numbers}}


def _is_beyond(before: int, after: int) -> bool:
    return before - after > _MIN_LOSS and before - after > _MIN_SHARE * before


def _is_exempt(name: str, accepted: set[str]) -> bool:
    table = ".".join(name.split(".")[:2])
    return table in _SHORT_LIVED or bool({table, name} & accepted)


def _removal(name: str, number: int) -> str:
    return f"{name}: {number} became none, it was removed without a migration"


def _shrinkage(name: str, before: int, after: int) -> str:
    return f"{name}: {before} became {after}"
