"""gitea doctor check: inconsistencies between configuration, disk and database."""

from __future__ import annotations

from collections.abc import Callable

from .database import Database, DatabaseError
from .migrations import current_version
from .release import installed_release
from .settings import Settings, load


def check(_arguments: list[str]) -> int:
    """Runs every check and prints its problems; the exit code is 0 either way, as in Gitea."""
    settings = load()
    database = Database(settings.database)
    for number, (title, find) in enumerate(_CHECKS.items(), start=1):
        print(f"\n[{number}] {title}")
        try:
            problems = find(settings, database)
        except (DatabaseError, OSError) as error:
            problems = [str(error)]
        for problem in problems:
            print(f" - [E] {problem}")
        print("ERROR" if problems else "OK")
    print(f"\nAll done (checks: {len(_CHECKS)}).")
    return 0


def _paths(settings: Settings, _database: Database) -> list[str]:
    wanted = {
        "Configuration File Path": settings.path,
        "Repository Root Path": settings.repositories,
        "Data Root Path": settings.data_directory,
    }
    return [f"{name}: {path} does not exist" for name, path in wanted.items() if not path.exists()]


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


_CHECKS: dict[str, Callable[[Settings, Database], list[str]]] = {
    "Check paths and basic configuration": _paths,
    "Check Database Version": _version,
}
