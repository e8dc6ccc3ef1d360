"""Fixtures and order of the end-to-end tests."""

from tests.support.deployed_site import *  # noqa: F403 - pytest finds fixtures by their names in a conftest
