"""Checks a run of mutants: the share that each module's tests kill, and whether each survivor is accepted.

docs/reference/mutation.md lists accepted survivors below a heading with the module's path, each as
"- `definition`: `before` -> `after`: reason." A line may be wrapped at any blank outside of the backticks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str, str, int]
_ENTRY = re.compile(r"- `([^`]+)`: `([^`]*)` -> `([^`]*)`(?: \((\d+)\))?: (\S.*)")
_HEADING = re.compile(r"#+ `?([\w/.-]+\.py)`?")


@dataclass(frozen=True)
class Result:
    """The result of one module: its number of mutants, the keys of those that survived, and the seconds of the run."""

    source: str
    mutants: int
    survived: tuple[Key, ...]
    seconds: float

    @property
    def killed(self) -> int:
        """The number of mutants on which a test failed."""
        return self.mutants - len(self.survived)

    @property
    def percent(self) -> float:
        """The share killed in percent, rounded down to a tenth; 100 for a module without mutants."""
        return self.killed * 1000 // self.mutants / 10 if self.mutants else 100.0


def accepted_from(document: str) -> dict[str, dict[Key, str]]:
    """Return the accepted survivors of a document with their reasons, by module.

    Raises ValueError for an entry below a module's heading that cannot be read.
    """
    found: dict[str, dict[Key, str]] = {}
    module = ""
    for paragraph in _paragraphs(document):
        if paragraph.startswith("#"):
            heading = _HEADING.fullmatch(paragraph)
            module = heading[1] if heading else ""
        elif module and paragraph.startswith("- "):
            entry = _ENTRY.fullmatch(paragraph)
            if not entry:
                raise ValueError(f"{module}: an entry is not written as the others: {paragraph}")
            found.setdefault(module, {})[entry[1], entry[2], entry[3], int(entry[4] or 1)] = entry[5]
    return found


def _paragraphs(document: str) -> list[str]:
    """Headings and entries, each on one line."""
    found: list[str] = []
    for line in document.splitlines():
        if line.startswith(("#", "- ")) or not line.strip() or not found:
            found.append(line.strip())
        else:
            found[-1] = f"{found[-1]} {line.strip()}".strip()
    return found


def entry(key: Key, reason: str = "REASON.") -> str:
    """Return a survivor as the document lists it."""
    definition, before, after, number = key
    return f"- `{definition}`: `{before}` -> `{after}`{f' ({number})' if number > 1 else ''}: {reason}"


def failures(results: Sequence[Result], accepted: Mapping[str, Collection[Key]], floor: float) -> tuple[str, ...]:
    """Return each failure: too few mutants killed, a survivor that is not listed, a listed survivor that does not exist."""
    found = []
    for each in results:
        listed = accepted.get(each.source, ())
        if each.percent < floor:
            found.append(
                f"{each.source}: {each.percent} % of the mutants are killed, at least {floor:g} % are required"
            )
        found += [
            f"{each.source}: this survivor is not listed: {entry(key)}" for key in each.survived if key not in listed
        ]
        found += [
            f"{each.source}: this listed mutant is killed or no longer generated, remove it: {entry(key, '')}".rstrip(
                ": "
            )
            for key in listed
            if key not in each.survived
        ]
    return tuple(found)


def table(results: Sequence[Result], accepted: Mapping[str, Collection[Key]]) -> tuple[str, ...]:
    """Return a row for each module: mutants, killed, survived, the share killed, accepted survivors, seconds."""
    rows = [("module", "mutants", "killed", "survived", "percent", "accepted", "seconds")]
    for each in results:
        listed = len(set(accepted.get(each.source, ())) & set(each.survived))
        survived = str(len(each.survived))
        share = (str(each.percent), str(listed), f"{each.seconds:.0f}")
        rows.append((each.source, str(each.mutants), str(each.killed), survived, *share))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return tuple(_row(row, widths) for row in rows)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([cells[0].ljust(widths[0]), *numbers])


def document(results: Sequence[Result], accepted: Mapping[str, Mapping[Key, str]], floor: float) -> dict[str, Any]:
    """Return the results as reports/mutation.json holds them."""
    return {
        "schema": 1,
        "floor": floor,
        "modules": [
            {
                "module": each.source,
                "mutants": each.mutants,
                "killed": each.killed,
                "percent": each.percent,
                "seconds": round(each.seconds, 1),
                "survived": [
                    {
                        "definition": key[0],
                        "before": key[1],
                        "after": key[2],
                        "number": key[3],
                        "reason": accepted.get(each.source, {}).get(key, ""),
                    }
                    for key in each.survived
                ],
            }
            for each in results
        ],
    }
