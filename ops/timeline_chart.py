"""A chart of consecutive steps with their durations, of milestones, and of durations compared with their limits.

Positions are in percent and sizes in pixels: a chart is as wide as its page, and its text has the size of the other text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

# The name of the test property with a chart as JSON. It is in the JUnit file, whose digest is in the evidence.
PROPERTY = "course"
_ROW = 38
_LINE = 20


@dataclass(frozen=True)
class Mark:
    """A milestone, in seconds from the start."""

    name: str
    at: float


@dataclass(frozen=True)
class Limit:
    """A duration and its limit, both in seconds."""

    name: str
    seconds: float
    allowed: float


@dataclass(frozen=True)
class TimelineChart:
    """Consecutive steps with their seconds, milestones, and durations with limits."""

    title: str
    steps: Mapping[str, float] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    limits: tuple[Limit, ...] = ()


def to_document(chart: TimelineChart) -> dict[str, Any]:
    """Return a chart as a JSON-ready document."""
    return {**dataclasses.asdict(chart), "steps": dict(chart.steps)}


def chart_from_json(text: str) -> TimelineChart:
    """Return the chart of a JSON document; raises ValueError for any other text."""
    try:
        document = json.loads(text)
        marks, limits = document["marks"], document["limits"]
        return TimelineChart(
            str(document["title"]),
            {str(name): float(seconds) for name, seconds in document["steps"].items()},
            tuple(Mark(str(each["name"]), float(each["at"])) for each in marks),
            tuple(Limit(str(each["name"]), float(each["seconds"]), float(each["allowed"])) for each in limits),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a timeline chart: {text[:80]!r}") from error


def to_svg(chart: TimelineChart) -> str:
    """Return the chart as SVG for a page that styles its classes."""
    # The marks first: their lines are behind the text.
    rows = "".join([*_marks(chart), *_steps(chart), *_limits(chart)])
    height = _top_of_limits(chart) + _ROW * len(chart.limits)
    label = escape(f"{chart.title}: {duration(sum(chart.steps.values()))} in {len(chart.steps)} steps")
    return (
        f'<svg class="course" role="img" aria-label="{label}" width="100%" height="{height}">'
        f"<title>{label}</title>{rows}</svg>"
    )


def duration(seconds: float) -> str:
    """Return a number of seconds as text, rounded to a useful precision."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"


def _steps(chart: TimelineChart) -> Iterator[str]:
    total = _total(chart)
    began = 0.0
    for row, (name, seconds) in enumerate(chart.steps.items()):
        bar = _bar("step", began / total, seconds / total, row * _ROW + 20)
        yield _text(row * _ROW + 14, name, duration(seconds)) + _bar("track", 0, 1, row * _ROW + 20) + bar
        began += seconds


def _marks(chart: TimelineChart) -> Iterator[str]:
    bottom = len(chart.steps) * _ROW
    for number, mark in enumerate(chart.marks):
        x = _percent(mark.at / _total(chart))
        y = bottom + number * _LINE
        anchor = "start" if x < 20 else "end" if x > 80 else "middle"
        yield (
            f'<line class="mark" x1="{x}%" x2="{x}%" y1="0" y2="{y + 2}"/>'
            f'<text class="mark" x="{x}%" y="{y + 15}" text-anchor="{anchor}">'
            f"{escape(mark.name)}: {duration(mark.at)}</text>"
        )


def _limits(chart: TimelineChart) -> Iterator[str]:
    for number, limit in enumerate(chart.limits):
        y = _top_of_limits(chart) + number * _ROW
        kept = limit.seconds <= limit.allowed
        scale = max(limit.seconds, limit.allowed) or 1.0
        at = _percent(limit.allowed / scale)
        yield (
            _text(y + 14, limit.name, f"{duration(limit.seconds)} of at most {duration(limit.allowed)}")
            + _bar("track", 0, 1, y + 20)
            + _bar("kept" if kept else "broken", 0, limit.seconds / scale, y + 20)
            + f'<line class="limit" x1="{at}%" x2="{at}%" y1="{y + 19}" y2="{y + 31}"/>'
        )


def _top_of_limits(chart: TimelineChart) -> int:
    return len(chart.steps) * _ROW + len(chart.marks) * _LINE + 12


def _total(chart: TimelineChart) -> float:
    return max([sum(chart.steps.values()), *(mark.at for mark in chart.marks)]) or 1.0


def _text(y: int, name: str, value: str) -> str:
    return f'<text y="{y}">{escape(name)}</text><text class="value" x="100%" y="{y}" text-anchor="end">{escape(value)}</text>'


def _bar(kind: str, start: float, share: float, y: int) -> str:
    return f'<rect class="{kind}" x="{_percent(start)}%" y="{y}" width="{_percent(share)}%" height="8" rx="3"/>'


def _percent(share: float) -> float:
    return round(100 * share, 2)
