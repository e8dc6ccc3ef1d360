"""Settings that keep the unit suite below ten seconds although boto3, moto and Hypothesis create many objects."""

from __future__ import annotations

import atexit
import functools
import gc
import os

import pytest

# The environment may have credentials of a live site; the tests use moto's.
for _name in [each for each in os.environ if each.startswith("AWS_")]:
    del os.environ[_name]

# Fake hosts in temporary folders make and remove thousands of files, with many calls of fsync: memory is faster than a disk.
if os.access("/dev/shm", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

# The libraries create hundreds of thousands of objects that live to the end; the collector would scan them again and again.
gc.set_threshold(100_000, 50, 50)
# The process ends anyway, so collecting the remaining objects at exit only takes time.
atexit.register(gc.freeze)


def pytest_collectstart() -> None:
    """Prepare a process that runs tests; xdist's controller does not need these imports."""
    _prepare()


@functools.cache
def _prepare() -> None:
    _speed_up_botocore_and_moto()
    _allow_hypothesis_time()


def _speed_up_botocore_and_moto() -> None:
    import botocore.session
    import moto.core.responses
    from botocore.useragent import UserAgentString
    from moto.core.utils import method_names_from_class

    # Each session would read megabytes of AWS's service descriptions again.
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    # No test reads the user agent, which botocore builds twice a call.
    UserAgentString.to_string = functools.cache(UserAgentString.to_string)
    # Moto lists all methods of a class at every call to find one.
    pytest.MonkeyPatch().setattr(
        moto.core.responses, "method_names_from_class", functools.cache(method_names_from_class)
    )


def _allow_hypothesis_time() -> None:
    import hypothesis

    # A slow machine must not fail a test.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first, so that no worker runs them alone at the end."""
    items.sort(key=lambda item: item.path.name != "test_update_sequences.py")


def pytest_collection_finish() -> None:
    gc.freeze()  # modules stay until the end


def pytest_sessionfinish() -> None:
    gc.freeze()  # pytest collects once more to find open resources, which takes longer than the tests of a file
