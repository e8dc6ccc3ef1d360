"""Fixtures and order of the integration tests."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from ground import set_choice
from ops.deploy import infrastructure
from ops.errors import OpsError
from ops.model import Outputs
from tests.support.local_environment import *  # noqa: F403 - pytest finds fixtures by their names in a conftest
from tests.support.site_in_aws import KEY, Cloud, cloud_at


def pytest_sessionstart(session: pytest.Session) -> None:
    """Choose the image set before pytest-xdist starts its processes, so that all of them have the same one."""
    if session.config.option.collectonly:
        return
    try:
        set_choice.choose()
    except OpsError as error:
        raise pytest.UsageError(f"{error.message}; {error.hint}") from error


# The longest files first: most of their time is waiting.
SLOWEST_FIRST = (
    "test_infra.py",
    "test_infra_access.py",
    "test_infra_states.py",
    "test_host.py",
    "test_stack.py",
    "test_gitea_contract.py",
    "test_bad_input.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files in the order above, then all others. Disaster tests are collected together with tests of other folders.

    Tests of the stand-in alone, which have the fixture of that name, are left out of a run on upstream's images, and those of
    the real Grafana alone of any other.
    """
    upstream = os.environ.get(set_choice.VARIABLE) == set_choice.UPSTREAM
    without = "stand_in" if upstream else "real_grafana"
    others = [item for item in items if without in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
    rank = {Path(__file__).with_name(name): number for number, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def cloud(aws_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """A site in LocalStack, shared by the files with the tests of Terraform's root."""
    return cloud_at(aws_endpoint, tmp_path_factory.mktemp("cloud"))


@pytest.fixture(scope="session")
def applied(cloud: Cloud) -> Outputs:
    """The infrastructure of that site, created from nothing."""
    return infrastructure.infrastructure(cloud.site, cloud.world, cloud.workspace, KEY)


class _SharedLocalStack(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types, so its class is Any to mypy
    """One process per file, but one for all files with a LocalStack: its start takes ten seconds of processor time."""

    def _split_scope(self, nodeid: str) -> str:
        scope = str(super()._split_scope(nodeid))
        return re.sub(r"test_(adapters|infra_access|infra_states)\.py", "test_infra.py", scope)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _SharedLocalStack:
    """Return the scheduler for pytest-xdist."""
    return _SharedLocalStack(config, log)
