"""Fixtures and order of the integration tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from ground import set_choice
from ops.errors import OpsError
from tests.support.local_environment import *  # noqa: F403 - pytest finds fixtures by their names in a conftest


def pytest_sessionstart(session: pytest.Session) -> None:
    """Choose the image set before pytest-xdist starts its processes, so that all of them have the same one."""
    if session.config.option.collectonly:
        return
    try:
        set_choice.choose()
    except OpsError as error:
        raise pytest.UsageError(f"{error.message}; {error.hint}") from error


# The longest files first: most of their time is waiting.
SLOWEST_FIRST = ("test_infra.py", "test_host.py", "test_stack.py", "test_gitea_contract.py", "test_bad_input.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files in the order above, then all others. Disaster tests are collected together with tests of other folders.

    Tests of the stand-in alone, which have the fixture of that name, are left out of a run on upstream's images.
    """
    if os.environ.get(set_choice.VARIABLE) == set_choice.UPSTREAM:
        stand_in = [item for item in items if "stand_in" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=stand_in)
        items[:] = [item for item in items if item not in stand_in]
    rank = {Path(__file__).with_name(name): number for number, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


class _SharedLocalStack(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types, so its class is Any to mypy
    """One process per file, but one for all files with a LocalStack: its start takes ten seconds of processor time."""

    def _split_scope(self, nodeid: str) -> str:
        scope = str(super()._split_scope(nodeid))
        return scope.replace("test_adapters.py", "test_infra.py")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _SharedLocalStack:
    """Return the scheduler for pytest-xdist."""
    return _SharedLocalStack(config, log)
