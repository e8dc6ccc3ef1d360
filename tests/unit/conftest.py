"""What keeps the unit suite below ten seconds although boto3, moto and Hypothesis make, and run through, very much."""

from __future__ import annotations

import atexit
import functools
import gc
import os

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


def pytest_collectstart() -> None:
    """Prepare a process that runs tests; the one that only hands them out to the others need not import all this."""
    _prepare()


@functools.cache
def _prepare() -> None:
    _hurry_botocore_and_moto()
    _allow_hypothesis_time()


def _hurry_botocore_and_moto() -> None:
    import botocore.session
    import moto.core.responses
    from botocore.useragent import UserAgentString
    from moto.core.utils import method_names_from_class

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begins first: no worker waits for it in the end."""
    items.sort(key=lambda item: item.path.name != "test_update_sequences.py")


def pytest_collection_finish() -> None:
    gc.freeze()  # modules never go


def pytest_sessionfinish() -> None:
    gc.freeze()  # pytest looks once more for what was left open, which takes longer than many a file's tests
