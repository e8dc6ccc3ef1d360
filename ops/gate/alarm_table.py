"""A table of the faults of a rehearsal: the alerts that each rang, and the seconds until the alarm and its end arrived."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ops.model import Case

# The name of the test property with one fault as JSON. It is in the JUnit file, whose digest is in the evidence.
PROPERTY = "alarm"


@dataclass(frozen=True)
class Alarm:
    """A fault, its alerts, where they were noticed, and the seconds from fault to alarm and from its end to the all-clear."""

    fault: str
    alerts: Sequence[str]
    channel: str
    rung: float
    ended: float


def alarms(cases: Iterable[Case]) -> tuple[Alarm, ...]:
    """Return the alarms that passed tests recorded, the slowest first. A property that is no alarm is left out."""
    found = [
        _alarm(case.properties[PROPERTY]) for case in cases if case.outcome == "passed" and PROPERTY in case.properties
    ]
    return tuple(sorted((each for each in found if each), key=lambda each: -each.rung))


def to_html(cases: Iterable[Case]) -> str:
    """Return the table, with its heading; empty without alarms."""
    rows = "".join(_row(each) for each in alarms(cases))
    if not rows:
        return ""
    return (
        '<h2>Faults and their alarms</h2><div class="wide"><p class="lead">Seconds with the intervals of a rehearsal: 2 s '
        "between measurements, a thirtieth of those of a site.</p>"
        '<table class="figures"><thead><tr><th>fault</th><th>alerts</th><th>from fault to alarm</th>'
        f"<th>from its end to RESOLVED</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _alarm(text: str) -> Alarm | None:
    try:
        document: dict[str, Any] = json.loads(text)
        return Alarm(
            str(document["fault"]),
            tuple(map(str, document["alerts"])),
            str(document["channel"]),
            float(document["rung"]),
            float(document["ended"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _row(alarm: Alarm) -> str:
    return (
        f"<tr><td>{escape(alarm.fault)}</td><td>{escape(', '.join(alarm.alerts))}<small>{escape(alarm.channel)}</small></td>"
        f'<td class="ratio">{alarm.rung:.1f} s</td><td class="ratio">{alarm.ended:.1f} s</td></tr>'
    )
