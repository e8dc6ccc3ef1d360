"""Checks of a restored copy: the repositories that its database names, and git fsck of all repositories."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ops.backup.repositories import REPOSITORIES
from ops.world.postgres import Session

# git's messages about an object's format (git-fsck(1), fsck.<msg-id>), such as badTimezone. The object is as it was pushed:
# its hash is its name, and a changed object is reported by other words.
_FORMAT = "^(error|warning) in (commit|tree|tag|blob) [0-9a-f]+: [A-Za-z0-9]+: "
# The bit of git fsck's exit code for errors in an object's format (git's builtin/fsck.c, ERROR_OBJECT).
_FORMAT_CODE = 1
_SHOWN = 3
# Prints for each repository with an exit code: the code and the name, the kinds of format errors, the first other lines.
FSCK = f"""cd /data/{REPOSITORIES} 2>/dev/null || exit 0
find . -mindepth 2 -maxdepth 2 -name '*.git' -type d | sort | while read -r each; do
    git -c safe.directory='*' --git-dir="$each" fsck --full --no-dangling --no-progress >/tmp/fsck 2>&1
    code=$?
    [ "$code" = 0 ] && continue
    echo "= $code ${{each#./}}"
    grep -E '{_FORMAT}' /tmp/fsck | sed -E 's/^[^:]*: ([A-Za-z0-9]+): .*/format \\1/' | sort -u
    grep -v -E '{_FORMAT}|^notice: ' /tmp/fsck | sort >/tmp/other
    head -n {_SHOWN} /tmp/other | sed 's/^/other /'
    echo "more $(($(wc -l </tmp/other) - {_SHOWN}))"
done"""
_TABLES = ("user", "repository", "repo_unit")
_CODE_UNIT, _ORGANIZATION, _READY = 1, 1, 0


@dataclass(frozen=True)
class Checked:
    """The result of a check: ``findings`` about data at stake, ``notes`` about what is no fault of the backup."""

    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def fsck_result(output: str, rows: Collection[str]) -> Checked:
    """Return the result of ``FSCK``.

    Errors in the format of objects alone are a note, because the repository was pushed so, and so is any error in a folder
    that is no repository of the database's ``rows``.
    """
    findings, notes = list[str](), list[str]()
    for text in re.split(r"^= ", output, flags=re.MULTILINE)[1:]:
        section = _Section.of(text)
        is_fault = not section.is_format_alone and section.is_among(rows)
        (findings if is_fault else notes).append(section.line)
    return Checked(tuple(findings), tuple(notes))


@dataclass(frozen=True)
class _Section:
    """What ``FSCK`` prints about one repository."""

    code: int
    name: str
    kinds: tuple[str, ...]
    other: tuple[str, ...]
    more: int

    @classmethod
    def of(cls, text: str) -> _Section:
        """Return the section of a text, whose first line has code and name."""
        head, *lines = text.splitlines()
        code, _, name = head.partition(" ")
        words: dict[str, list[str]] = {"format": [], "other": [], "more": []}
        for line in lines:
            kind, _, rest = line.partition(" ")
            words[kind].append(rest)
        more = max((int(each) for each in words["more"]), default=0)
        return cls(int(code), name, tuple(words["format"]), tuple(words["other"]), more)

    @property
    def is_format_alone(self) -> bool:
        """Whether git found nothing but objects of an odd format."""
        return self.code == _FORMAT_CODE and bool(self.kinds) and not self.other

    def is_among(self, rows: Collection[str]) -> bool:
        """Return whether the folder is a repository of the database, or the wiki of one."""
        return self.name in rows or f"{self.name.removesuffix('.wiki.git')}.git" in rows

    @property
    def line(self) -> str:
        """The section as one line of a report."""
        if self.is_format_alone:
            return f"git fsck of {self.name}: {', '.join(self.kinds)}; the objects are as they were pushed"
        words = "; ".join(self.other) or f"exit code {self.code}"
        return f"git fsck of {self.name}: {words}" + (f"; {self.more} more lines" if self.more > 0 else "")


def repository_rows(session: Session) -> dict[str, bool]:
    """Return the repositories of Gitea's database (owner/name.git), each with whether Gitea serves its content to clients.

    Gitea refuses the repositories of deactivated users and those without a code unit, to administrators, too. Empty ones and
    those in the making have no content. Conditions on columns that this version of Gitea lacks are left out.
    """
    names = ", ".join(f"'{name}'" for name in _TABLES)
    columns = {
        (table, column)
        for table, column in session.ask(
            "SELECT table_name, column_name FROM information_schema.columns "  # noqa: S608 - ours
            f"WHERE table_schema = 'public' AND table_name IN ({names})"
        )
    }
    rows = session.ask(
        f"SELECT u.lower_name || '/' || r.lower_name || '.git', {_served(columns)} "  # noqa: S608 - ours
        'FROM repository r JOIN "user" u ON u.id = r.owner_id'
    )
    return {name: served == "t" for name, served in rows}


def _served(columns: Collection[tuple[str, str]]) -> str:
    is_organization = f" OR u.type = {_ORGANIZATION}" if ("user", "type") in columns else ""
    conditions = {
        ("user", "is_active"): f"(coalesce(u.is_active, false){is_organization})",
        ("repository", "is_empty"): "NOT coalesce(r.is_empty, false)",
        ("repository", "status"): f"r.status = {_READY}",
        ("repo_unit", "type"): f"EXISTS (SELECT FROM repo_unit e WHERE e.repo_id = r.id AND e.type = {_CODE_UNIT})",
    }
    return " AND ".join(["true", *(text for column, text in conditions.items() if column in columns)])


def compare_rows(rows: Mapping[str, bool], stored: Iterable[str]) -> Checked:
    """Compare the repositories of the database with those of the data: Gitea serves each row, and no folder without a row."""
    stored = {name for name in stored if not name.endswith(".wiki.git")}
    missing = sorted(name for name, served in rows.items() if served and name not in stored)
    unadopted = sorted(stored - set(rows))
    notes = (f"folders without a repository in Gitea (unadopted): {', '.join(unadopted)}",) if unadopted else ()
    return Checked(tuple(f"repository {name} is in the database and not in the data" for name in missing), notes)
