"""The metrics that `ops` writes for Prometheus: their names and meanings, and the files that the node exporter reads.

The format is Prometheus' text format (prometheus.io, "Exposition formats"). A file has its writer's name: writers never
overwrite each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.config.paths import DATA_DIRECTORY
from ops.config.schema import Site
from ops.world import World

PREFIX = "gitea_suite_"
FOLDER = Path(DATA_DIRECTORY, "metrics")
# The name of each metric without PREFIX: its meaning, and its labels. All are gauges; times are in seconds since 1970.
METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "backup_last_success_timestamp_seconds": ("The moment of the newest backup in the bucket", ()),
    "backup_size_bytes": ("What the newest backup added to the repositories", ()),
    "backup_duration_seconds": ("How long the newest backup took", ()),
    "backup_pause_seconds": ("How long the newest backup paused writes", ()),
    "backup_rpo_seconds": ("The greatest allowed age of the newest backup, from the site file", ()),
    "verification_last_run_timestamp_seconds": ("When the last verification of backups began", ()),
    "verification_last_success_timestamp_seconds": ("When the last verification that passed began", ()),
    "verification_passed": ("1 when the last verification passed, else 0", ()),
    "drill_last_run_timestamp_seconds": ("When the last restore drill began", ()),
    "drill_last_success_timestamp_seconds": ("When the last restore drill that passed began", ()),
    "drill_passed": ("1 when the last restore drill passed, else 0", ()),
    "drill_recovery_point_seconds": (
        "The age of the backup that the last drill restored: what a loss would have cost",
        (),
    ),
    "drill_recovery_time_seconds": ("How long the last drill took until the scratch site was healthy", ()),
    "drill_interval_seconds": ("The time between drills, from the site file", ()),
    "wal_last_archived_timestamp_seconds": ("All transactions until then are in the bucket", ()),
    "prune_last_success_timestamp_seconds": ("When the last complete prune of backups began", ()),
    "update_last_run_timestamp_seconds": ("When the last update of a service ended", ("service",)),
    "update_failed": ("1 when the last update of a service did not stay, else 0", ("service",)),
    "update_held": ("1 when the site file holds a service at its version", ("service",)),
    "update_away_seconds": ("How long the last update of a service kept Gitea away", ("service",)),
    "health_check": ("1 when a check of `ops health` passes, else 0", ("check",)),
    "health_last_run_timestamp_seconds": ("When `ops health` last ran on the host", ()),
    "maintenance_until_timestamp_seconds": (
        "`ops` has stopped something on purpose, at the latest until then",
        ("operation",),
    ),
}


@dataclass(frozen=True)
class Sample:
    """One value of a metric; ``name`` is without PREFIX."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def are_wanted(site: Site) -> bool:
    """Whether the site has monitoring, and the folder for metrics, which a deployment makes."""
    return site.monitoring.enabled and FOLDER.is_dir()


def write(site: Site, world: World, writer: str, samples: Iterable[Sample]) -> None:
    """Replace the file of a writer. Does nothing without monitoring; a failure is reported and is not an error."""
    if not are_wanted(site):
        return
    try:
        world.files.write(FOLDER / f"{writer}.prom", text(samples).encode())
    except OSError as error:
        world.tell(f"the metrics of {writer} were not written: {error}")


def remove(world: World, writer: str) -> None:
    """Remove the file of a writer; one that does not exist is not an error."""
    try:
        world.files.remove(FOLDER / f"{writer}.prom")
    except OSError as error:
        world.tell(f"the metrics of {writer} were not removed: {error}")


def text(samples: Iterable[Sample]) -> str:
    """Return samples in Prometheus' text format, sorted by metric and labels."""
    lines: list[str] = []
    described = ""
    for each in sorted(samples, key=lambda one: (one.name, sorted(one.labels.items()))):
        meaning, labels = METRICS[each.name]
        assert tuple(sorted(each.labels)) == tuple(sorted(labels)), each
        assert math.isfinite(each.value), each
        name = PREFIX + each.name
        if name != described:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
            described = name
        lines.append(f"{name}{_labels(each.labels)} {each.value!r}")
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))
    return f"{{{','.join(pairs)}}}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
