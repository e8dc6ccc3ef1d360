"""A course of things as a drawing: what was done one after the other, what was reached when, and what it was allowed to take.

Places are in percent and sizes in pixels, so that a drawing is as wide as its page and its words stay as large as the others.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

# The name of a test's property that is a course, as JSON: the JUnit file has it, and the evidence seals that.
PROPERTY = "course"
_ROW = 38
_LINE = 20


@dataclass(frozen=True)
class Mark:
    """What was reached, in seconds from the begin."""

    name: str
    at: float


@dataclass(frozen=True)
class Limit:
    """How long something took, and how long it is allowed to take, in seconds."""

    name: str
    seconds: float
    allowed: float


@dataclass(frozen=True)
class TimelineChart:
    """Steps that were taken one after the other, each with its seconds."""

    title: str
    steps: Mapping[str, float] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    limits: tuple[Limit, ...] = ()


def to_document(course: TimelineChart) -> dict[str, Any]:
    """Return a course as JSON has it."""
    return {**dataclasses.asdict(course), "steps": dict(course.steps)}


def chart_from_json(text: str) -> TimelineChart:
    """Return the course that a JSON document tells of; raises ValueError when it tells of none."""
    try:
        known = json.loads(text)
        return TimelineChart(
            str(known["title"]),
            {str(name): float(seconds) for name, seconds in known["steps"].items()},
            tuple(Mark(str(each["name"]), float(each["at"])) for each in known["marks"]),
            tuple(Limit(str(each["name"]), float(each["seconds"]), float(each["allowed"])) for each in known["limits"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no time line: {text[:80]!r}") from error


def to_svg(course: TimelineChart) -> str:
    """Return the course as SVG, to be put into a page that gives colours to its classes."""
    # The marks first: their lines pass behind the words.
    rows = "".join([*_marks(course), *_steps(course), *_limits(course)])
    height = _top_of_limits(course) + _ROW * len(course.limits)
    said = escape(f"{course.title}: {duration(sum(course.steps.values()))} in {len(course.steps)} steps")
    return (
        f'<svg class="course" role="img" aria-label="{said}" width="100%" height="{height}">'
        f"<title>{said}</title>{rows}</svg>"
    )


def duration(seconds: float) -> str:
    """Return a number of seconds as a person reads it."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"


def _steps(course: TimelineChart) -> Iterator[str]:
    whole = _whole(course)
    began = 0.0
    for row, (name, seconds) in enumerate(course.steps.items()):
        bar = _bar("step", began / whole, seconds / whole, row * _ROW + 20)
        yield _words(row * _ROW + 14, name, duration(seconds)) + _bar("track", 0, 1, row * _ROW + 20) + bar
        began += seconds


def _marks(course: TimelineChart) -> Iterator[str]:
    bottom = len(course.steps) * _ROW
    for number, mark in enumerate(course.marks):
        x = _percent(mark.at / _whole(course))
        y = bottom + number * _LINE
        anchor = "start" if x < 20 else "end" if x > 80 else "middle"
        yield (
            f'<line class="mark" x1="{x}%" x2="{x}%" y1="0" y2="{y + 2}"/>'
            f'<text class="mark" x="{x}%" y="{y + 15}" text-anchor="{anchor}">'
            f"{escape(mark.name)}: {duration(mark.at)}</text>"
        )


def _limits(course: TimelineChart) -> Iterator[str]:
    for number, limit in enumerate(course.limits):
        y = _top_of_limits(course) + number * _ROW
        kept = limit.seconds <= limit.allowed
        scale = max(limit.seconds, limit.allowed) or 1.0
        at = _percent(limit.allowed / scale)
        yield (
            _words(y + 14, limit.name, f"{duration(limit.seconds)} of at most {duration(limit.allowed)}")
            + _bar("track", 0, 1, y + 20)
            + _bar("kept" if kept else "broken", 0, limit.seconds / scale, y + 20)
            + f'<line class="limit" x1="{at}%" x2="{at}%" y1="{y + 19}" y2="{y + 31}"/>'
        )


def _top_of_limits(course: TimelineChart) -> int:
    return len(course.steps) * _ROW + len(course.marks) * _LINE + 12


def _whole(course: TimelineChart) -> float:
    return max([sum(course.steps.values()), *(mark.at for mark in course.marks)]) or 1.0


def _words(y: int, name: str, told: str) -> str:
    return f'<text y="{y}">{escape(name)}</text><text class="told" x="100%" y="{y}" text-anchor="end">{escape(told)}</text>'


def _bar(kind: str, start: float, share: float, y: int) -> str:
    return f'<rect class="{kind}" x="{_percent(start)}%" y="{y}" width="{_percent(share)}%" height="8" rx="3"/>'


def _percent(share: float) -> float:
    return round(100 * share, 2)
