"""gitea doctor check: inconsistencies between configuration, disk and database."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import hooks, keys, repositories
from .database import Database, DatabaseError
from .errors import CommandError
from .migrations import current_version
from .release import installed_release
from .settings import Settings, load

# A letter of the log's levels and a line.
Finding = tuple[str, str]
# Gitea prints names in the terminal's own colour.
_NAMED = '\x1b[0m{:<26}\x1b[0m  "{}"'


@dataclass(frozen=True)
class Check:
    """One check: its name for --run, its title, the function that returns its findings, and whether it runs by default."""

    name: str
    title: str
    find: Callable[[Settings, Database], list[Finding]]
    by_default: bool = True


def check(arguments: list[str]) -> int:
    """Runs the checks that are named, and prints their findings; the exit code is 0 either way, as in Gitea."""
    parser = argparse.ArgumentParser(prog="gitea doctor check", allow_abbrev=False)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--run", action="append", default=[])
    options = parser.parse_args(arguments)
    settings = load()
    database = Database(settings.database)
    chosen = _chosen(options.all, [name for given in options.run for name in given.split(",")])
    for number, each in enumerate(chosen, start=1):
        print(f"\n[{number}] {each.title}")
        try:
            findings = each.find(settings, database)
        except (DatabaseError, OSError) as error:
            findings = [("C", str(error))]
        for level, line in findings:
            print(f" - [{level}] {line}")
        print("ERROR" if any(level in "EC" for level, _ in findings) else "OK")
    print(f"\nAll done (checks: {len(chosen)}).")
    return 0


def _chosen(everything: bool, names: list[str]) -> list[Check]:
    if unknown := set(names) - {each.name for each in _CHECKS}:
        raise CommandError(f"unknown checks: {','.join(sorted(unknown))}")
    # Without names, 1.27 and later check nothing.
    by_default = not names and not installed_release().since(1, 27)
    return [each for each in _CHECKS if everything or (by_default and each.by_default) or each.name in names]


def _paths(settings: Settings, _database: Database) -> list[Finding]:
    known = {
        "Configuration File Path:": settings.path,
        "Repository Root Path:": settings.repositories,
        "Data Root Path:": settings.data_directory,
        "Custom File Root Path:": settings.path.parents[1],
        "Work directory:": settings.path.parents[1],
        "Log Root Path:": settings.path.parents[1] / "log",
    }
    findings = []
    for name, path in known.items():
        findings.append(("I", _NAMED.format(name, path)))
        if not path.exists():
            findings.append(("E", "    Is REQUIRED but is not accessible. ERROR: no such file or directory"))
    return findings


def _version(_settings: Settings, database: Database) -> list[Finding]:
    with database.connection() as connection:
        found = current_version(connection)
    wanted = installed_release().database_version
    findings = [("I", f"Expected database version: {wanted}")]
    if found != wanted:
        findings.append(("C", f"current database version {found} is not equal to the expected version {wanted}"))
    return findings


def _types(_settings: Settings, database: Database) -> list[Finding]:
    count = database.returned("SELECT count(*) AS n FROM \"user\" WHERE type = 0 AND passwd = ''")["n"]
    return [("W", f"{count} users of wrong type")] if count else []


def _authorized_keys(settings: Settings, database: Database) -> list[Finding]:
    missing = keys.not_written(database, settings.path)
    return [("C", f"{keys.AUTHORIZED_KEYS} is out of date and should be regenerated")] if missing else []


def _heads(settings: Settings, database: Database) -> list[Finding]:
    found = repositories.everything(database)
    broken = [each.full_name for each in found if not _has_head(repositories.path_of(settings, each))]
    if not broken:
        return [("I", f"All {len(found)} repos have their HEADs in the correct state")]
    # Gitea counts empty repositories, too.
    findings = [("W", f"Default branch for {name} doesn't point to a valid commit") for name in broken]
    return [*findings, ("C", f"Default branches are broken for {len(broken)}/{len(found)} repos")]


def _hooks(settings: Settings, database: Database) -> list[Finding]:
    found = [repositories.path_of(settings, each) for each in repositories.everything(database)]
    missing = [folder for folder in found if not hooks.written(folder, settings.path)]
    return [("W", f"hooks of {folder} are out of date") for folder in missing]


def _has_head(folder: Path) -> bool:
    done = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "-q", "--verify", "HEAD"], capture_output=True, check=False
    )
    return done.returncode == 0


_CHECKS = (
    Check("paths", "Check paths and basic configuration", _paths),
    Check("check-db-version", "Check Database Version", _version),
    Check("check-user-type", "Check if user with wrong type exist", _types),
    Check("authorized-keys", "Check if OpenSSH authorized_keys file is up-to-date", _authorized_keys),
    Check("hooks", "Check if hook files are up-to-date and executable", _hooks, by_default=False),
    Check("synchronize-repo-heads", "Synchronize repo HEADs", _heads),
)
