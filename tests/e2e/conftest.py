"""Fixtures and order of the end-to-end tests."""

from __future__ import annotations

import pytest

from tests.support.deployed_site import (
    account,
    admin,
    by_hand,
    git,
    host,
    repository,
    site,
    sort_interruptions_last,
    ssh,
    ssh_config,
    web,
)

__all__ = [
    "account",
    "admin",
    "by_hand",
    "git",
    "host",
    "repository",
    "site",
    "ssh",
    "ssh_config",
    "web",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that interrupt the site last."""
    sort_interruptions_last(items)
