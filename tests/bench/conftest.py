"""Fixtures of the benchmarks: the sizes of a site, and the site itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from ground import aws, environment, run_registry
from ground.disk_space import require_space
from ground.image_set import OPS_BASE
from ops.world.process import Processes
from tests.bench.site import Site, on

# The copies: the site, the repository on the host, the bucket, a restored copy. The rest is for the test environment.
_COPIES, _GROUND_GIB = 4, 8


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--gigabytes``; a short run is ``-- --gigabytes 0.2``."""
    parser.addoption("--gigabytes", default="0.2,2,8", help="the sizes of the site, ascending (default: 0.2,2,8)")


@pytest.fixture(scope="session")
def sizes(request: pytest.FixtureRequest) -> list[float]:
    """The sizes to measure, in GB."""
    return [float(each) for each in request.config.getoption("--gigabytes").split(",")]


@pytest.fixture(scope="session")
def site(sizes: list[float]) -> Iterator[Site]:
    """The local site, on a disk with enough free space for all copies."""
    require_space(print, needed_gib=round(_GROUND_GIB + _COPIES * max(sizes)))
    with environment.running(run_registry.REPOSITORY / "sites/local.toml", print) as raised:
        os.environ.update(aws.CREDENTIALS, OPS_BASE_IMAGE=raised.images.local(OPS_BASE))
        assert Processes().passthrough([sys.executable, "-m", "ops", "deploy", "--site", str(raised.site_file)]) == 0
        yield on(raised)
