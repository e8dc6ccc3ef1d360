"""Run a verb, and on the site's host write the metrics that may have changed: whether it did its work or failed."""

from __future__ import annotations

import argparse
from pathlib import Path

from ops.cli import place
from ops.cli.place import Place
from ops.config import load
from ops.errors import OpsError
from ops.model import Report
from ops.status import site_metrics
from ops.world import World

# The verbs that change what the records say, or read all of it.
_VERBS = frozenset({"backup", "health", "restore", "rollback", "update"})


def run(arguments: argparse.Namespace) -> Report:
    """Run the verb and return its report."""
    if place.here() is not Place.HOST or arguments.command.split()[0] not in _VERBS:
        return _run(arguments)
    done = None
    try:
        done = _run(arguments)
        return done
    finally:
        _write(arguments, done)


def _run(arguments: argparse.Namespace) -> Report:
    done: Report = arguments.verb(arguments)
    return done


def _write(arguments: argparse.Namespace, done: Report | None) -> None:
    from ops.cli.commands import tell

    try:
        world = World(load.load(Path(arguments.site)), tell=tell)
        site_metrics.refresh(world.site, world)
        if done and done.verb == "health" and not arguments.address:
            site_metrics.write_health(world.site, world, done)
    except OpsError as error:
        tell(f"the metrics were not written: {error.message}")
