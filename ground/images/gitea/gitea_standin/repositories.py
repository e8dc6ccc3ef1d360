"""Repositories: a row in PostgreSQL and a bare repository on disk, created and removed together."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass, fields
from pathlib import Path

from . import git, hooks
from .accounts import User
from .database import Database, Duplicate, Row
from .settings import Settings

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
# Code, issues, pull requests, releases, wiki, projects, packages and Actions, by the numbers that they have in Gitea.
_UNITS = (1, 2, 3, 4, 5, 8, 9, 10)
# The name and the text of a file in the root of a repository, and the message of its commit.
NewFile = tuple[str, str, str]


class RepositoryExistsError(Exception):
    """The owner has a repository of that name already."""


class BadNameError(Exception):
    """The name is not allowed for a repository; the message is Gitea's."""


@dataclass(frozen=True)
class Repository:
    """One repository."""

    id: int
    owner_id: int
    owner_name: str
    name: str
    default_branch: str
    is_private: bool
    is_empty: bool
    description: str
    created_unix: int
    updated_unix: int

    @property
    def full_name(self) -> str:
        """owner/name."""
        return f"{self.owner_name}/{self.name}"


@dataclass(frozen=True)
class NewRepository:
    """The properties of a repository to be created."""

    name: str
    private: bool
    auto_init: bool
    default_branch: str
    description: str


def may_read(repository: Repository, user: User | None) -> bool:
    """Whether `user` may read the repository; None is an anonymous user."""
    return not repository.is_private or may_write(repository, user)


def may_write(repository: Repository, user: User | None) -> bool:
    """Whether `user` may push: the owner and administrators."""
    return user is not None and (user.is_admin or user.id == repository.owner_id)


def path_of(settings: Settings, repository: Repository) -> Path:
    """The path of the bare repository."""
    return settings.repositories / repository.owner_name.lower() / f"{repository.name.lower()}.git"


def wiki_path_of(settings: Settings, repository: Repository) -> Path:
    """The path of the bare repository of the wiki, which exists once the wiki has a page."""
    return path_of(settings, repository).with_name(f"{repository.name.lower()}.wiki.git")


def stored_file(folder: Path, name: str) -> Path:
    """The path of an attachment, an LFS object or a package's file: Gitea spreads them over folders, too."""
    return folder / name[:2] / name[2:4] / name


def create(database: Database, settings: Settings, owner: User, new: NewRepository, author: User) -> Repository:
    """Creates row and bare repository, or neither. Raises BadNameError, RepositoryExistsError, GitError or OSError."""
    reserved = new.name in {".", "..", "-"} or new.name.lower().endswith((".git", ".wiki"))
    if reserved or not _NAME.fullmatch(new.name):
        raise BadNameError("[Name]: AlphaDashDot")
    repository = _insert(database, owner, new)
    folder = path_of(settings, repository)
    try:
        _make_on_disk(settings, folder, repository, new, (author.name, author.email))
    except (OSError, git.GitError):
        database.execute("DELETE FROM repository WHERE id = %s", repository.id)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return repository


def delete(database: Database, settings: Settings, repository: Repository) -> None:
    """Removes the row, everything that refers to it, and its files. Raises OSError."""
    attached = database.rows("SELECT uuid FROM attachment WHERE repo_id = %s", repository.id)
    with database.transaction() as connection:
        connection.execute("DELETE FROM issue WHERE repo_id = %s", (repository.id,))
        connection.execute("DELETE FROM issue_index WHERE group_id = %s", (repository.id,))
        connection.execute("DELETE FROM repository WHERE id = %s", (repository.id,))
    for row in attached:
        stored_file(settings.data_directory / "attachments", str(row["uuid"])).unlink(missing_ok=True)
    for folder in (path_of(settings, repository), wiki_path_of(settings, repository)):
        shutil.rmtree(folder, ignore_errors=True)


def delete_all_of(database: Database, settings: Settings, owner: User) -> None:
    """Removes every repository of an owner. Raises OSError."""
    for repository in everything(database):
        if repository.owner_id == owner.id:
            delete(database, settings, repository)


def find(database: Database, owner: str, name: str) -> Repository | None:
    """The repository owner/name, case ignored."""
    row = database.row(
        'SELECT r.* FROM repository r JOIN "user" u ON u.id = r.owner_id WHERE u.lower_name = %s AND r.lower_name = %s',
        owner.lower(),
        name.lower(),
    )
    return _repository_from(row) if row else None


def of_id(database: Database, number: int) -> Repository | None:
    """The repository with that number."""
    row = database.row("SELECT * FROM repository WHERE id = %s", number)
    return _repository_from(row) if row else None


def search(database: Database, user: User | None, words: str = "") -> list[Repository]:
    """The repositories that `user` may read and whose names contain `words`, by name."""
    return [each for each in everything(database) if words.lower() in each.name.lower() and may_read(each, user)]


def everything(database: Database) -> list[Repository]:
    """All repositories, by name."""
    return [_repository_from(row) for row in database.rows("SELECT * FROM repository ORDER BY lower_name, id")]


def _insert(database: Database, owner: User, new: NewRepository) -> Repository:
    now = int(time.time())
    try:
        row = database.insert(
            "repository",
            owner_id=owner.id,
            owner_name=owner.name,
            lower_name=new.name.lower(),
            name=new.name,
            description=new.description,
            default_branch=new.default_branch,
            is_private=new.private,
            is_empty=not new.auto_init,
            created_unix=now,
            updated_unix=now,
        )
    except Duplicate as error:
        raise RepositoryExistsError(f"repository already exists [uname: {owner.name}, name: {new.name}]") from error
    for unit in _UNITS:
        database.insert("repo_unit", repo_id=row["id"], type=unit, config="{}", created_unix=now)
    return _repository_from(row)


def make_bare(settings: Settings, folder: Path, branch: str) -> None:
    """Makes an empty bare repository. Raises GitError."""
    options = ("--quiet", "--bare", "--template=", f"--initial-branch={branch}")
    git.run(settings.data_directory, folder.parent, "init", *options, str(folder))


def _make_on_disk(
    settings: Settings, folder: Path, repository: Repository, new: NewRepository, author: git.Person
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_bare(settings, folder, new.default_branch)
    hooks.write(folder, settings.path)
    if new.auto_init:
        readme = ("README.md", f"# {repository.name}\n", "Initial commit")
        commit_file(settings, folder, author, readme, to=repository.default_branch)


def commit_file(settings: Settings, folder: Path, author: git.Person, new: NewFile, *, to: str, base: str = "") -> str:
    """Commits a file onto the branch `base` ("" for no parent) as the branch `to`; the commit. Raises GitError."""
    name, content, message = new

    def run(*arguments: str, text: str = "") -> str:
        return git.run(settings.data_directory, folder, *arguments, text=text, author=author)

    entries = [line for line in run("ls-tree", base).splitlines() if not line.endswith(f"\t{name}")] if base else []
    blob = run("hash-object", "-w", "--stdin", text=content)
    tree = run("mktree", text="".join(f"{line}\n" for line in [*entries, f"100644 blob {blob}\t{name}"]))
    commit = run("commit-tree", tree, *(["-p", base] if base else []), text=f"{message}\n")
    run("update-ref", f"refs/heads/{to}", commit)
    return commit


def _repository_from(row: Row) -> Repository:
    return Repository(**{field.name: row[field.name] for field in fields(Repository)})
