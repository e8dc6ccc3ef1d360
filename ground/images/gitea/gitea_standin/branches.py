"""Gitea's rows of branches and tags beside git's references.

A push writes the rows of its branches before it ends. That the repository is no longer empty, its default branch and the rows
of tags follow a moment later, from a queue (pushes.py): until then the API lists no branches of a new repository.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import git
from .database import Database
from .git import Commit
from .repositories import Repository, path_of
from .settings import Settings

_HEADS, _TAGS = "refs/heads/", "refs/tags/"


@dataclass(frozen=True)
class Branch:
    """A branch and its newest commit."""

    name: str
    commit: Commit


def listed(database: Database, settings: Settings, repository: Repository) -> list[Branch]:
    """The branches with a row that git has, by name. Without any row, those of git get one. Raises git.GitError."""
    if repository.is_empty:
        return []
    if not database.row("SELECT 1 AS one FROM branch WHERE repo_id = %s AND NOT is_deleted", repository.id):
        write(database, settings, repository)
    query = "SELECT name FROM branch WHERE repo_id = %s AND NOT is_deleted ORDER BY name"
    known = _references(settings, repository, _HEADS)
    names = [row["name"] for row in database.rows(query, repository.id)]
    return [Branch(name, _commit(settings, repository, known[name])) for name in names if name in known]


def find(database: Database, settings: Settings, repository: Repository, name: str) -> Branch | None:
    """The branch with a row; raises git.GitError if git does not have it."""
    query = "SELECT 1 AS one FROM branch WHERE repo_id = %s AND name = %s AND NOT is_deleted"
    if not database.row(query, repository.id, name):
        return None
    return Branch(name, _commit(settings, repository, _HEADS + name))


def write(database: Database, settings: Settings, repository: Repository, refs: Iterable[str] | None = None) -> None:
    """Writes the rows of these branches as git has them, by default of all. Raises git.GitError."""
    known, now = _references(settings, repository, _HEADS), int(time.time())
    names = known if refs is None else [ref.removeprefix(_HEADS) for ref in refs if ref.startswith(_HEADS)]
    for name in names:
        if name in known:
            database.execute(
                "INSERT INTO branch (repo_id, name, commit_id, is_deleted, created_unix, updated_unix) "
                "VALUES (%s, %s, %s, false, %s, %s) ON CONFLICT (repo_id, name) "
                "DO UPDATE SET commit_id = excluded.commit_id, is_deleted = false, updated_unix = excluded.updated_unix",
                *(repository.id, name, known[name], now, now),
            )
        else:
            statement = "UPDATE branch SET is_deleted = true, deleted_unix = %s WHERE repo_id = %s AND name = %s"
            database.execute(statement, now, repository.id, name)


def finish_push(database: Database, settings: Settings, repository: Repository, refs: Mapping[str, str]) -> None:
    """The queued part of a push: the repository's row (time, default branch, not empty) and the rows of tags.

    `refs` have their old commits. As in Gitea, only a branch that is new ends a repository's being empty.
    """
    default = repository.default_branch
    new = [ref.removeprefix(_HEADS) for ref, old in refs.items() if ref.startswith(_HEADS) and not old.strip("0")]
    if repository.is_empty and new and default not in new:
        default = new[0]
        git.run(settings.data_directory, path_of(settings, repository), "symbolic-ref", "HEAD", _HEADS + default)
    database.execute(
        "UPDATE repository SET updated_unix = %s, default_branch = %s, is_empty = is_empty AND NOT %s WHERE id = %s",
        *(int(time.time()), default, bool(new), repository.id),
    )
    _write_tags(database, settings, repository, [ref.removeprefix(_TAGS) for ref in refs if ref.startswith(_TAGS)])


def _write_tags(database: Database, settings: Settings, repository: Repository, names: list[str]) -> None:
    known = _references(settings, repository, _TAGS) if names else {}
    for name in names:
        # A release keeps its row without a tag.
        statement = "DELETE FROM release WHERE repo_id = %s AND tag_name = %s AND is_tag"
        database.execute(statement, repository.id, name)
        if name in known:
            found = _commit(settings, repository, known[name])
            database.execute(
                "INSERT INTO release (repo_id, publisher_id, tag_name, lower_tag_name, target, title, sha1, note, is_tag, "
                "created_unix) VALUES (%s, %s, %s, %s, '', '', %s, '', true, %s) ON CONFLICT (repo_id, tag_name) "
                "DO UPDATE SET sha1 = excluded.sha1",
                *(repository.id, repository.owner_id, name, name.lower(), found.id, int(time.time())),
            )


def _references(settings: Settings, repository: Repository, prefix: str) -> Mapping[str, str]:
    query = ("for-each-ref", "--format=%(objectname) %(refname)", prefix)
    lines = git.run(settings.data_directory, path_of(settings, repository), *query).splitlines()
    return {name.removeprefix(prefix): number for number, name in (line.split(" ", 1) for line in lines)}


def _commit(settings: Settings, repository: Repository, revision: str) -> Commit:
    return git.commit(settings.data_directory, path_of(settings, repository), revision)
