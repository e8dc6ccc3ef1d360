"""The rows in a stored dump, read from its text alone: a second count beside that of the manifest, which SQL made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ops.backup.manifest import Manifest
from ops.world.postgres import ABSENT, ROW, TABLE

# The tables and columns that say whether Gitea serves a repository, as far as a version of Gitea has them.
COLUMNS: Mapping[str, Sequence[str]] = {
    "user": ("id", "lower_name", "is_active", "type"),
    "repository": ("owner_id", "id", "lower_name", "is_empty", "status"),
    "repo_unit": ("repo_id", "type"),
}
_CODE_UNIT, _ORGANIZATION, _READY = "1", "1", "0"
_SHOWN = 20


@dataclass
class DumpRows:
    """The number of rows of each table in a dump, and the rows of COLUMNS. ``add`` takes a line of postgres.dump_rows."""

    counts: dict[str, int] = field(default_factory=dict)
    users: dict[str, list[str]] = field(default_factory=dict)
    repositories: list[list[str]] = field(default_factory=list)
    with_code: set[str] = field(default_factory=set)

    def add(self, line: str) -> None:
        """Take one line of output; any other program's line is ignored."""
        if line.startswith(TABLE):
            name, _, count = line.removeprefix(TABLE).rpartition(" ")
            self.counts[name] = int(count)
        elif line.startswith(ROW):
            table, *values = line.removeprefix(ROW).split("\t")
            self._add_row(table, values)

    def served(self) -> frozenset[str]:
        """Return the repositories (owner/name.git) that Gitea serves by its tables.

        The owner is active or an organization, the code unit is on, and the repository is neither empty nor in the making.
        """
        return frozenset(
            f"{self.users[owner][0]}/{name}.git"
            for owner, identity, name, is_empty, status in self.repositories
            if self._is_served(owner, identity, is_empty, status)
        )

    def _add_row(self, table: str, values: list[str]) -> None:
        if table == "user":
            self.users[values[0]] = values[1:]
        elif table == "repository":
            self.repositories.append(values)
        elif values[1] == _CODE_UNIT:
            self.with_code.add(values[0])

    def _is_served(self, owner: str, identity: str, is_empty: str, status: str) -> bool:
        if owner not in self.users:
            return False
        _, is_active, kind = self.users[owner]
        is_open = is_active in {"t", ABSENT} or kind == _ORGANIZATION
        has_code = "repo_unit" not in self.counts or identity in self.with_code
        return is_open and has_code and is_empty != "t" and status in {_READY, ABSENT}


def tables_of(chosen: Manifest) -> tuple[str, ...]:
    """Return the tables to read from the dump of a manifest: those that it counted, by whatever version of this suite."""
    return tuple(dict.fromkeys((*chosen.rows, *COLUMNS)))


def missing_tables(chosen: Manifest, counts: Mapping[str, int]) -> list[str]:
    """Return a finding for each table in a manifest that its dump does not have, or has with another number of rows."""
    lines = [f"table {name} is not in the dump of {chosen.identity}" for name in chosen.rows if name not in counts]
    return lines + [
        f"table {name} has {counts[name]} rows in the dump of {chosen.identity} and {rows} in its manifest"
        for name, rows in chosen.rows.items()
        if counts.get(name, rows) != rows
    ]


def missing_repositories(chosen: Manifest, served: Iterable[str], stored: Iterable[str]) -> list[str]:
    """Return a finding for each repository that Gitea serves by the dump's rows and that is not in the stored data.

    Those that the manifest names, as stored or as missing, are findings already. The first twenty of many.
    """
    missing = sorted({*served} - {*stored, *chosen.repositories, *(chosen.missing or ())})
    shown = [f"repository {name} is in the dump of {chosen.identity} and not in its data" for name in missing[:_SHOWN]]
    more = [f"{len(missing) - _SHOWN} more repositories are in the dump of {chosen.identity} and not in its data"]
    return shown + (more if missing[_SHOWN:] else [])
