"""The alerting rules as Prometheus gets them, and promtool."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ops.config import monitoring_files
from ops.config.schema import Site

ROOT = Path(__file__).parents[2]
SOURCES = tuple(sorted((ROOT / "compose/prometheus/rules").glob("*.yaml")))
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gitea-suite"
# It rings at all times: there is no good case and no fault but its absence.
ALWAYS = "Watchdog"


@dataclass(frozen=True)
class Rule:
    """An alerting rule with its site's thresholds, and the file that it stands in."""

    name: str
    file: str
    expression: str
    seconds: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def metrics(self) -> frozenset[str]:
        """The names of the metrics in the expression."""
        bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(?:by|on|without|group_left)\s*\([^)]*\)', " ", self.expression)
        return frozenset(re.findall(r"\b[a-z]\w*_\w+\b(?!\s*\()|\bup\b", bare)) - _FUNCTIONS


_FUNCTIONS = frozenset({"absent_over_time", "avg_over_time", "predict_linear"})


def rules(site: Site) -> tuple[Rule, ...]:
    """Return every rule of compose/prometheus/rules, for a site."""
    return tuple(_rules(site))


def _rules(site: Site) -> Iterator[Rule]:
    for source in SOURCES:
        document = yaml.safe_load(monitoring_files.rules_for(site, source.read_text(encoding="utf-8")))
        for group in document["groups"]:
            for rule in group["rules"]:
                seconds = float(str(rule.get("for", "0s")).removesuffix("s"))
                yield Rule(
                    rule["alert"],
                    source.stem,
                    rule["expr"],
                    seconds,
                    rule.get("labels", {}),
                    rule.get("annotations", {}),
                )
