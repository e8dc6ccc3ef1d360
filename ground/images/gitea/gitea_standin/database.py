"""PostgreSQL: a small pool of connections that survives a restart of the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg  # type: ignore[import-not-found]  # Debian's package, in the image alone
from psycopg.rows import dict_row  # type: ignore[import-not-found]

from .settings import DatabaseSettings

Row = dict[str, Any]
Connection = Any
DatabaseError = psycopg.Error
Duplicate = psycopg.errors.UniqueViolation

_IDLE_SECONDS = 1.0
_WAIT_SECONDS = 15.0


class Database:
    """At most `limit` connections, opened on demand; every method raises DatabaseError while PostgreSQL is away."""

    def __init__(self, settings: DatabaseSettings, limit: int = 12) -> None:
        self._settings = settings
        self._free = threading.Semaphore(limit)
        self._idle: list[tuple[float, Connection]] = []
        self._lock = threading.Lock()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for the length of the block; a broken one is discarded afterwards."""
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise psycopg.OperationalError("no database connection became free")
        try:
            connection = self._borrow()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._free.release()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction: committed at the end, rolled back by an exception."""
        with self.connection() as connection, connection.transaction():
            yield connection

    def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of a query."""
        with self.connection() as connection:
            return list(connection.execute(sql, values).fetchall())

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of a query."""
        with self.connection() as connection:
            found: Row | None = connection.execute(sql, values).fetchone()
            return found

    def returned(self, sql: str, *values: object) -> Row:
        """The row that a statement returns. Raises LookupError when it returns none."""
        found = self.row(sql, *values)
        if found is None:
            raise LookupError(f"no row from: {sql}")
        return found

    def insert(self, table: str, **values: object) -> Row:
        """Adds a row and returns it with its defaults. Raises Duplicate when a unique column has the value already."""
        columns, places = ", ".join(values), ", ".join(["%s"] * len(values))
        statement = f"INSERT INTO {table} ({columns}) VALUES ({places}) RETURNING *"  # noqa: S608 - names are the code's own
        return self.returned(statement, *values.values())

    def execute(self, sql: str, *values: object) -> int:
        """Runs a statement; returns the number of changed rows."""
        with self.connection() as connection:
            return int(connection.execute(sql, values).rowcount)

    def close(self) -> None:
        """Closes all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _borrow(self) -> Connection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                used, connection = self._idle.pop()
            if time.monotonic() - used < _IDLE_SECONDS or _alive(connection):
                return connection
            connection.close()
        return self._open()

    def _open(self) -> Connection:
        wanted = self._settings
        try:
            return psycopg.connect(
                host=wanted.host,
                port=wanted.port,
                dbname=wanted.name,
                user=wanted.user,
                password=wanted.password,
                sslmode="disable",
                connect_timeout=3,
                tcp_user_timeout=5000,
                application_name="gitea",
                autocommit=True,
                row_factory=dict_row,
            )
        except psycopg.OperationalError as error:
            if "not known" in str(error) or "name resolution" in str(error):
                # Gitea's words; the server is that of a container in a network of its own.
                unknown = f"dial tcp: lookup {wanted.host} on 127.0.0.11:53: no such host"
                raise psycopg.OperationalError(unknown) from error
            raise

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.broken:
            connection.close()
            return
        with self._lock:
            self._idle.append((time.monotonic(), connection))


def _alive(connection: Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
