"""gitea doctor check: looks for what does not fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from . import hooks, keys, repositories
from .database import Database, DatabaseError
from .errors import CommandError
from .migrations import current_version
from .release import installed_release
from .settings import Settings, load


@dataclass(frozen=True)
class Check:
    """One look: `find` gives the problems, a sentence each; `fix` mends them where that can be."""

    name: str
    title: str
    default: bool
    find: Callable[[Settings, Database], list[str]]
    fix: Callable[[Settings, Database], None] | None = None


def check(arguments: list[str]) -> int:
    """Runs the default checks, all (--all) or the named ones (--run name). Raises CommandError."""
    if "--list" in arguments:
        for each in CHECKS:
            print(f"{'*' if each.default else ' '}\t{each.name}\t{each.title}")
        return 0
    chosen = _chosen(arguments)
    settings = load()
    database = Database(settings.database)
    for number, each in enumerate(chosen, start=1):
        print(f"\n[{number}] {each.title}")
        _run(each, settings, database, "--fix" in arguments)
    print(f"\nAll done (checks: {len(chosen)}).")
    return 0


def _chosen(arguments: list[str]) -> list[Check]:
    if "--all" in arguments:
        return list(CHECKS)
    names = [word for flag, word in pairwise(arguments) if flag == "--run"]
    if unknown := set(names) - {each.name for each in CHECKS}:
        raise CommandError(f"unknown checks: {sorted(unknown)}")
    return [each for each in CHECKS if (each.name in names if names else each.default)]


def _run(each: Check, settings: Settings, database: Database, mend: bool) -> None:
    try:
        problems = each.find(settings, database)
        if problems and mend and each.fix:
            each.fix(settings, database)
            problems = []
    except (DatabaseError, OSError) as error:
        problems = [str(error)]
    for problem in problems:
        print(f" - [E] {problem}")
    print("ERROR" if problems else "OK")


def _paths(settings: Settings, _database: Database) -> list[str]:
    wanted = {
        "Configuration File Path": settings.path,
        "Repository Root Path": settings.repositories,
        "Data Root Path": settings.data_directory,
    }
    for name, path in wanted.items():
        print(f' - [I] {name + ":":30}"{path}"')
    return [f"{name}: {path} does not exist" for name, path in wanted.items() if not Path(path).exists()]


def _version(_settings: Settings, database: Database) -> list[str]:
    with database.connection() as connection:
        found = current_version(connection)
    wanted = installed_release().database_version
    if found == wanted:
        return []
    return [
        f"current database version {found} is not equal to the expected version {wanted}. Please run "
        '"gitea [--config /path/to/app.ini] migrate" to update the database version'
    ]


def _consistency(settings: Settings, database: Database) -> list[str]:
    known = {repositories.path_of(settings, each): each.full_name for each in repositories.everything(database)}
    on_disk = set(settings.repositories.glob("*/*.git"))
    lost = [f"repository {known[path]} has no folder {path}" for path in sorted(set(known) - on_disk)]
    return lost + [f"folder {path} belongs to no repository" for path in sorted(on_disk - set(known))]


def _hooks(settings: Settings, database: Database) -> list[str]:
    problems = []
    for each in repositories.everything(database):
        problems += hooks.wrong(repositories.path_of(settings, each), settings.path)
    return problems


def _write_hooks(settings: Settings, database: Database) -> None:
    for each in repositories.everything(database):
        hooks.write(repositories.path_of(settings, each), settings.path)


def _authorized_keys(settings: Settings, database: Database) -> list[str]:
    path = keys.AUTHORIZED_KEYS
    present = set(path.read_text().splitlines()) if path.exists() else set()
    if set(keys.wanted_lines(database, settings.path)) <= present:
        return []
    return ['authorized_keys file is out of date and should be regenerated with: "gitea admin regenerate keys"']


def _write_keys(settings: Settings, database: Database) -> None:
    keys.rewrite_authorized_keys(database, settings.path)


CHECKS = (
    Check("paths", "Check paths and basic configuration", True, _paths),
    Check("check-db-version", "Check Database Version", True, _version),
    Check(
        "authorized-keys", "Check if OpenSSH authorized_keys file is up-to-date", True, _authorized_keys, _write_keys
    ),
    Check("hooks", "Check if hook files are up-to-date and executable", False, _hooks, _write_hooks),
    Check("check-db-consistency", "Check consistency of database", False, _consistency),
)
