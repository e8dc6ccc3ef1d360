"""Issues, stored in PostgreSQL."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .accounts import User
from .database import Database, Row
from .repositories import Repository


@dataclass(frozen=True)
class Issue:
    """One issue; `index` is its number within the repository."""

    id: int
    index: int
    title: str
    body: str
    poster_id: int
    created_unix: int


def create(
    database: Database, repository: Repository, poster: User, title: str, body: str, *, is_pull: bool = False
) -> Issue:
    """Makes an issue or a pull request with the repository's next number."""
    now = int(time.time())
    with database.transaction() as connection:
        # One statement takes the number, so that two concurrent issues get different ones.
        number = connection.execute(
            "INSERT INTO issue_index (group_id, max_index) VALUES (%s, 1) "
            "ON CONFLICT (group_id) DO UPDATE SET max_index = issue_index.max_index + 1 RETURNING max_index",
            (repository.id,),
        ).fetchone()["max_index"]
        row = connection.execute(
            'INSERT INTO issue (repo_id, "index", poster_id, name, content, is_pull, created_unix, updated_unix) '
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING *",
            (repository.id, number, poster.id, title, body, is_pull, now, now),
        ).fetchone()
    return _issue_from(row)


def of_repository(database: Database, repository: Repository, state: str) -> list[Issue]:
    """The repository's issues, newest first; `state` is open, closed or all."""
    rows = database.rows(
        "SELECT * FROM issue WHERE repo_id = %s AND (%s = 'all' OR is_closed = (%s = 'closed')) "
        'ORDER BY "index" DESC',
        repository.id,
        state,
        state,
    )
    return [_issue_from(row) for row in rows]


def find(database: Database, repository: Repository, index: int) -> Issue | None:
    """The issue with that number."""
    row = database.row('SELECT * FROM issue WHERE repo_id = %s AND "index" = %s', repository.id, index)
    return _issue_from(row) if row else None


def _issue_from(row: Row) -> Issue:
    return Issue(row["id"], row["index"], row["name"], row["content"] or "", row["poster_id"], row["created_unix"])
