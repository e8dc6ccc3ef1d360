"""Fixtures and order of the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support.local_environment import *  # noqa: F403 - pytest finds fixtures by their names in a conftest

# The longest files first: most of their time is waiting.
SLOWEST_FIRST = ("test_infra.py", "test_host.py", "test_stack.py", "test_gitea_contract.py", "test_bad_input.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order above, then all others. Disaster tests are collected together with tests of other folders."""
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
