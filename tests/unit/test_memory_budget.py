"""The table of memory limits in docs/concepts/monitoring.md adds up what Compose has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNITS = {"m": 1, "g": 1024}
MACHINES = {"t3.medium": 4096, "t3.large": 8192}
# Run for seconds and end, or while another part of the table is away.
ON_DEMAND = {"certbot"}


class _Loader(yaml.SafeLoader):
    """Reads a value behind one of Compose's own tags as None: no limit stands behind one."""


_Loader.add_constructor("!reset", lambda loader, node: None)
_Loader.add_constructor("!override", lambda loader, node: None)


def _limits(name: str) -> dict[str, int]:
    document: dict[str, Any] = yaml.load((ROOT / "compose" / name).read_text(), _Loader)
    return {service: _mib(settings["mem_limit"]) for service, settings in document["services"].items()}


def _mib(limit: str) -> int:
    found = re.fullmatch(r"(\d+)([mg])", limit)
    assert found, limit
    return int(found[1]) * UNITS[found[2]]


def expected(site: Mapping[str, int], watch: Mapping[str, int], drill: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return the rows of the document's two tables."""
    services, monitoring, scratch = sum(site.values()), sum(watch.values()), sum(drill.values())
    running = services + monitoring
    rows: list[tuple[str, ...]] = [(name, str(limit)) for name, limit in {**site, **watch}.items()]
    rows += [
        ("the site", str(services)),
        ("the watch", str(monitoring)),
        ("a drill", str(scratch)),
    ]
    rows += [
        (name, str(memory), str(memory - services), str(memory - running), str(memory - running - scratch))
        for name, memory in MACHINES.items()
    ]
    return rows


def _written() -> list[tuple[str, ...]]:
    text = (ROOT / "docs/concepts/monitoring.md").read_text().partition("\n## Memory\n")[2].partition("\n## ")[0]
    cells = [
        [cell.strip(" *`") for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    return [tuple(row) for row in cells if re.fullmatch(r"-?\d+", row[-1])]


def test_the_document_adds_up_the_limits_of_compose() -> None:
    site = {name: limit for name, limit in _limits("compose.yaml").items() if name not in ON_DEMAND}
    rows = expected(site, _limits("monitoring.yaml"), _limits("drill.yaml"))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    assert _written() == rows, f"correct docs/concepts/monitoring.md, which has to have these rows:\n{table}"


@pytest.mark.parametrize("name", ["compose.yaml", "monitoring.yaml", "drill.yaml"])
def test_every_service_has_a_limit_of_its_memory(name: str) -> None:
    assert all(limit > 0 for limit in _limits(name).values())


def test_go_s_own_limit_stands_below_that_of_the_container() -> None:
    document = yaml.load((ROOT / "compose/monitoring.yaml").read_text(), _Loader)
    for name, settings in document["services"].items():
        soft = int(settings["environment"]["GOMEMLIMIT"].removesuffix("MiB"))
        assert soft < _mib(settings["mem_limit"]), name
