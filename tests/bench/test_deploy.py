"""A deployment of an unchanged site, against the same deployment from nothing in the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ground import aws, run, stand
from ground.images import OPS_BASE
from ground.stand import Stand

REPORT = run.REPOSITORY / "reports/bench.json"


@pytest.fixture(scope="module")
def ground() -> Iterator[tuple[Stand, float]]:
    """The local site's ground, and the seconds it took to raise."""
    began = time.monotonic()
    with stand.standing(run.REPOSITORY / "sites/local.toml", print) as raised:
        os.environ.update(aws.CREDENTIALS, OPS_BASE_IMAGE=raised.images.local(OPS_BASE))
        yield raised, time.monotonic() - began


def _deploy(site: Path) -> dict[str, float]:
    """The seconds of each step of a deployment, and of the whole."""
    began = time.monotonic()
    argv = [sys.executable, "-m", "ops", "deploy", "--site", str(site), "--json"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    steps: dict[str, float] = json.loads(done.stdout)["seconds"]
    return steps | {"whole": round(time.monotonic() - began, 1)}


def test_a_second_deployment_against_the_first(ground: tuple[Stand, float]) -> None:
    raised, seconds = ground
    first = _deploy(raised.site_file)
    second = _deploy(raised.site_file)
    ratios = {step: round(second[step] / first[step], 3) for step in first if first[step]}
    figures = {"ground_raised": round(seconds, 1), "from_nothing": first, "unchanged": second, "ratio": ratios}
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({"deploy": figures}, indent=2) + "\n")
    print(f"\nground raised in {seconds:.1f} s")
    for step in first:
        print(f"{step:16} from nothing {first[step]:6.1f} s   unchanged {second[step]:6.1f} s   {ratios.get(step, '')}")
    assert second.keys() == first.keys()
