"""What keeps the unit suite below ten seconds although boto3, moto and Hypothesis make, and run through, very much.

A tracer slows Python down everywhere, in what coverage leaves out as well. So it is there while a line of ours can run: in a
test, in what is made for it, and in a module of ops that is being imported. What it misses can only make the figure smaller.
"""

from __future__ import annotations

import atexit
import functools
import gc
import itertools
import os
import sys
from collections.abc import Callable, Generator
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

import pytest

# Whoever works on a live site has its AWS in the environment; here moto's is meant.
for _name in [each for each in os.environ if each.startswith("AWS_")]:
    del os.environ[_name]

# Hosts in temporary folders make and remove thousands of files, and wait for a disk at each fsync: in memory nothing does.
if os.access("/dev/shm", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

# They make hundreds of thousands of objects that live to the end, and the collector would look at them over and over.
gc.set_threshold(100_000, 50, 50)
# What is left at the end goes with the process, and nothing is learned by taking it apart first.
atexit.register(gc.freeze)

# So many examples of a property are looked at.
_WATCHED = 10


class _Coverage:
    tracer: Any = None  # without --cov


def _under(tracer: Any, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call the function under that tracer, or under none.

    A tracer counts calls and returns: it goes and comes back in one and the same frame, or it takes one module for another.
    """
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        return function(*arguments, **named)
    finally:
        sys.settrace(before)


def _watched_at_first(function: Callable[..., Any]) -> Callable[..., Any]:
    examples = itertools.count()

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        # The later ones of a property hardly ever come to a line that no earlier one came to.
        return _under(_Coverage.tracer if next(examples) < _WATCHED else None, function, *arguments, **named)

    return call


def _unwatched(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return _under(None, function, *arguments, **named)

    return call


def pytest_collectstart() -> None:
    """Prepare a process that runs tests; the one that only hands them out to the others need not import all this."""
    _prepare()


@functools.cache
def _prepare() -> None:
    _Coverage.tracer = sys.gettrace()
    sys.settrace(None)
    _watch_imports_of_ops_alone()
    _hurry_botocore_and_moto()
    _allow_hypothesis_time()


def _watch_imports_of_ops_alone() -> None:
    execute = SourceFileLoader.exec_module

    def execute_in_or_out_of_sight(loader: SourceFileLoader, module: ModuleType) -> None:
        is_ours = module.__name__.partition(".")[0] == "ops"
        _under(_Coverage.tracer if is_ours else None, execute, loader, module)

    pytest.MonkeyPatch().setattr(SourceFileLoader, "exec_module", execute_in_or_out_of_sight)


def _hurry_botocore_and_moto() -> None:
    import botocore.session
    import moto.core.responses
    from botocore.client import BaseClient, ClientCreator
    from botocore.useragent import UserAgentString
    from moto.core.utils import method_names_from_class

    # Between a call of botocore's and its answer no line is ours.
    BaseClient._make_api_call = _unwatched(BaseClient._make_api_call)
    ClientCreator.create_client = _unwatched(ClientCreator.create_client)
    # Each session would read AWS's own descriptions of its services, which are megabytes, anew.
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    # No one reads how it introduces itself, which it puts together twice a call.
    UserAgentString.to_string = functools.cache(UserAgentString.to_string)
    # Moto looks at every member of a class at every call, to see whether it has the one.
    pytest.MonkeyPatch().setattr(
        moto.core.responses, "method_names_from_class", functools.cache(method_names_from_class)
    )


def _allow_hypothesis_time() -> None:
    import hypothesis

    # A busy machine is no reason for a test to fail.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()  # modules never go
    properties = {item.obj for item in session.items if isinstance(item, pytest.Function) and _is_property(item)}
    for each in properties:
        each.hypothesis.inner_test = _watched_at_first(each.hypothesis.inner_test)


def _is_property(item: pytest.Function) -> bool:
    return hasattr(item.obj, "hypothesis")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, Any, Any]:
    sys.settrace(_Coverage.tracer)
    try:
        return (yield)
    finally:
        sys.settrace(None)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    # Of a property, Hypothesis makes and judges the examples out of sight; each is tried in it.
    sys.settrace(None if _is_property(pyfuncitem) else _Coverage.tracer)
    try:
        return (yield)
    finally:
        sys.settrace(None)


def pytest_sessionfinish() -> None:
    gc.freeze()  # pytest looks once more for what was left open, which takes longer than many a file's tests
