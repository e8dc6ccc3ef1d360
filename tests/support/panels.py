"""The queries of the dashboards, as Grafana sends them to Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).parents[2] / "compose/grafana/dashboards"
# Grafana's names for the times of a panel, see its documentation, "Prometheus template variables".
RATE, RANGE = "$__rate_interval", "$__range"


@dataclass(frozen=True)
class Query:
    """A query of a panel; ``instant`` is whether the panel shows the present value alone."""

    board: str
    panel: str
    expression: str
    instant: bool

    def at(self, rate: str) -> str:
        """Return the expression with the range of rates that Grafana would put in."""
        return self.expression.replace(RATE, rate)

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.expression}"


def boards() -> dict[str, dict[str, Any]]:
    """Return each dashboard's document by the name of its file."""
    return {each.stem: json.loads(each.read_text(encoding="utf-8")) for each in sorted(DASHBOARDS.glob("*.json"))}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the dashboard's name and each panel with data."""
    for name, board in boards().items():
        yield from ((name, panel) for panel in board["panels"] if panel["type"] != "row")


def queries() -> list[Query]:
    """Return every query of every panel."""
    return [
        Query(board, panel["title"], target["expr"], target.get("instant", False))
        for board, panel in panels()
        for target in panel["targets"]
    ]
