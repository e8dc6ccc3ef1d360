"""Fixtures of the disaster tests on parts of the stack."""

from tests.support.local_environment import *  # noqa: F403 - pytest finds fixtures by their names in a conftest
