"""What keeps the unit suite below ten seconds although boto3 and moto make, and run through, very much.

Measured on two cores, with coverage: 24 s without this and without what the tests spare moto, 9 s with both.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import hypothesis
from botocore.client import BaseClient, ClientCreator

# Whoever works on a live site has its AWS in the environment; here moto's is meant.
for _name in [each for each in os.environ if each.startswith("AWS_")]:
    del os.environ[_name]

# A busy machine is no reason for a test to fail.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# They make hundreds of thousands of objects that live to the end, and the collector would look at them over and over.
gc.set_threshold(100_000, 50, 50)
# What is left at the end goes with the process, and nothing is learned by taking it apart first.
atexit.register(gc.freeze)


def pytest_collection_finish() -> None:
    gc.freeze()  # modules never go


def _unwatched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, out of coverage's sight: between a call of botocore's and its answer no line is ours."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        watcher = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*arguments, **named)
        finally:
            sys.settrace(watcher)

    return call


BaseClient._make_api_call = _unwatched(BaseClient._make_api_call)
ClientCreator.create_client = _unwatched(ClientCreator.create_client)
