"""A deployment of an unchanged site, against the same deployment from nothing in the same run, with the times of the steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ground import aws, environment, run_registry
from ground.environment import Environment
from ground.image_set import OPS_BASE
from ops.gate.benchmarks import Figure
from tests.bench.record import record


@dataclass(frozen=True)
class Deployment:
    """Whether a deployment changed anything, and its seconds: in all, by step, and of the host's slowest tasks."""

    changed: bool
    steps: dict[str, float]
    tasks: list[list[Any]]
    whole: float

    def share(self, step: str) -> float:
        """Return a step's share of the whole time in percent."""
        return round(100 * self.steps[step] / self.whole, 1)


@pytest.fixture(scope="module")
def ground() -> Iterator[tuple[Environment, float]]:
    """The local site's test environment, and the seconds of its start."""
    began = time.monotonic()
    with environment.running(run_registry.REPOSITORY / "sites/local.toml", print) as raised:
        os.environ.update(aws.CREDENTIALS, OPS_BASE_IMAGE=raised.images.local(OPS_BASE))
        yield raised, time.monotonic() - began


def _deploy(site: Path) -> Deployment:
    done, seconds = _timed("deploy", "--site", str(site), "--json")
    document = json.loads(done)
    return Deployment(document["changed"], document["seconds"], document["slowest_tasks"], seconds)


def _timed(*arguments: str) -> tuple[str, float]:
    began = time.monotonic()
    argv = [sys.executable, "-m", "ops", *arguments]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout, round(time.monotonic() - began, 1)


def test_a_second_deployment_against_the_first(ground: tuple[Environment, float]) -> None:
    raised, seconds = ground
    first = _deploy(raised.site_file)
    second = _deploy(raised.site_file)
    plan, plan_seconds = _timed("deploy", "--dry-run", "--site", str(raised.site_file))
    check, check_seconds = _timed("deploy", "--check", "--site", str(raised.site_file))
    assert (first.changed, second.changed) == (True, False)
    assert "nothing to do in AWS" in plan
    assert "no drift" in check
    assert second.steps.keys() == first.steps.keys()
    details = {
        "ground_raised": round(seconds, 1),
        "from_nothing": vars(first),
        "unchanged": vars(second),
        "plan_without_a_change": plan_seconds,
        "check_without_drift": check_seconds,
    }
    figures = [
        _figure(
            "a deployment of an unchanged site", second.whole, f"from nothing: {first.whole:.0f} s", first.whole, 40
        ),
        _figure("the infrastructure from nothing", first.steps["infrastructure"], "", None, 90),
        _figure("a plan that finds nothing to do", plan_seconds, "", None, 15),
        _figure(
            "the host's second run",
            second.steps["host"],
            f"first: {first.steps['host']:.0f} s",
            first.steps["host"],
            40,
        ),
    ]
    record("deploy", figures, details)
    print("\n".join(["", f"test environment started in {seconds:.1f} s", *_table(first, second)]))
    print(f"plan without a change {plan_seconds} s, check without drift {check_seconds} s")
    for name, deployment in (("from nothing", first), ("unchanged", second)):
        print(f"slowest tasks {name}: " + ", ".join(f"{task} {taken} s" for task, taken in deployment.tasks))
    assert [each.what for each in figures if not each.met] == []


def _figure(what: str, seconds: float, against: str, other: float | None, most: float) -> Figure:
    ratio = seconds / other if other else None
    return Figure(what, f"{seconds:.1f} s", against, ratio, f"<= {most} s", met=seconds <= most)


def _table(first: Deployment, second: Deployment) -> Iterator[str]:
    yield f"{'':16}{'from nothing':>22}{'unchanged':>22}   ratio"
    for step in first.steps:
        ratio = f"{second.steps[step] / first.steps[step]:.3f}" if first.steps[step] else ""
        columns = (f"{each.steps[step]:.1f} s ({each.share(step):.0f} %)" for each in (first, second))
        yield f"{step:16}" + "".join(f"{column:>22}" for column in columns) + f"   {ratio}"
    yield f"{'whole':16}{first.whole:>20.1f} s{second.whole:>20.1f} s   {second.whole / first.whole:.3f}"
