"""Roles, grants and owners that a dump names and a restore leaves out: they belong to the database server, not to Gitea."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ops.world.postgres import LEFT_OUT

_ROLE = re.compile(r'(?:TO|FROM|FOR ROLE) ("(?:[^"]|"")+"|[^\s,;]+)')
_OWNER = re.compile(r" OWNER TO .+;$")
_SHOWN = 20


def separate(tell: Callable[[str], None], left_out: list[str]) -> Callable[[str], None]:
    """Return the function for the lines of a load: it adds statements that were left out to the list and tells the others."""

    def on_line(line: str) -> None:
        if line.startswith(LEFT_OUT):
            left_out.append(line.removeprefix(LEFT_OUT))
        else:
            tell(line)

    return on_line


def lines_of(statements: Iterable[str]) -> tuple[str, ...]:
    """Return the report's lines about statements that were left out: the roles, then each grant, and the owners by number."""
    distinct = dict.fromkeys(statements)
    roles = sorted({role for each in distinct for role in _ROLE.findall(each)} - {"PUBLIC", "gitea"})
    if not distinct:
        return ()
    grants = [each for each in distinct if not _OWNER.search(each)]
    owned = len(distinct) - len(grants)
    lines = [f"not restored: roles {', '.join(roles)} and their rights; give them again where they are needed"]
    if not roles:
        lines = ["not restored: these rights; give them again where they are needed"]
    lines += [f"not restored: {each}" for each in grants[:_SHOWN]]
    if len(grants) > _SHOWN:
        lines.append(f"not restored: {len(grants) - _SHOWN} more grants")
    if owned:
        lines.append(f"not restored: the owners of {owned} objects, which gitea owns now")
    return tuple(lines)
