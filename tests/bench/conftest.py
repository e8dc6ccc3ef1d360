"""Which sizes of a site are measured, and the site itself."""

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

# The site itself, its copy on the host, that in the bucket, and one that is restored beside it; and what the ground needs.
_COPIES, _GROUND_GIB = 4, 8


def pytest_addoption(parser: pytest.Parser) -> None:
    """For a short look, ``-- --gigabytes 0.2``."""
    parser.addoption("--gigabytes", default="0.2,2,8", help="the sizes of the site, ascending (default: 0.2,2,8)")


@pytest.fixture(scope="session")
def sizes(request: pytest.FixtureRequest) -> list[float]:
    """The sizes that are measured, in GB."""
    return [float(each) for each in request.config.getoption("--gigabytes").split(",")]


@pytest.fixture(scope="session")
def site(sizes: list[float]) -> Iterator[Site]:
    """The local site, where its disk has the room that all of this takes."""
    require_space(print, needed_gib=round(_GROUND_GIB + _COPIES * max(sizes)))
    with environment.running(run_registry.REPOSITORY / "sites/local.toml", print) as raised:
        os.environ.update(aws.CREDENTIALS, OPS_BASE_IMAGE=raised.images.local(OPS_BASE))
        assert Processes().passthrough([sys.executable, "-m", "ops", "deploy", "--site", str(raised.site_file)]) == 0
        yield on(raised)
