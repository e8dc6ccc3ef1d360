"""Which sizes of a site are measured."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """For a short look, ``-- --gigabytes 0.2``."""
    parser.addoption("--gigabytes", default="0.2,2,8", help="the sizes of the site, ascending (default: 0.2,2,8)")
