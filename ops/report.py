"""Reports and errors as text or as one JSON document."""

from __future__ import annotations

import json
from typing import Any

from ops.errors import OpsError
from ops.model import Probe, Report

_FREE_SPACE = "room on "
_TERMS = {"elsewhere": "off-site"}


def as_text(report: Report) -> str:
    """Return the report's lines and then its summary."""
    return "\n".join([*report.lines, report.summary])


def as_json(report: Report) -> str:
    """Return the report as one JSON document."""
    return _document(
        {
            "verb": report.verb,
            "ok": report.exit_code == 0,
            "changed": report.changed,
            "exit_code": report.exit_code,
            "summary": report.summary,
            **report.facts,
        }
    )


def failure_as_text(error: OpsError) -> str:
    """Return the error, the state that the system was left in and the next step, one line each."""
    lines = (("error", error.message), ("left", error.left_as), ("next", error.hint))
    return "\n".join(f"{name + ':':6} {text}" for name, text in lines if text or name == "error")


def failure_as_json(verb: str, error: OpsError) -> str:
    """Return a failure as one JSON document, in the same form as a report."""
    return _document(
        {
            "verb": verb,
            "ok": False,
            "changed": False,
            "exit_code": error.exit_code,
            "error": type(error).__name__,
            "summary": error.message,
            "left_as": error.left_as,
            "next": error.hint,
        }
    )


def _document(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, default=str)


def line(probe: Probe) -> str:
    """Return a probe as one line: ok or RED, the observation, and the remedy."""
    mark = "ok " if probe.healthy else "RED"
    remedy = "" if probe.healthy or not probe.remedy else f" -> {probe.remedy}"
    return f"{mark} {_shown(probe.name)}: {probe.seen}{remedy}"


def _shown(name: str) -> str:
    """The field's term for a probe whose name in JSON is an older word, which people's scripts read."""
    if name.startswith(_FREE_SPACE):
        return f"free space on {name.removeprefix(_FREE_SPACE)}"
    return _TERMS.get(name, name)
