"""Fixtures of the tests of updates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """A host on which a site runs Gitea 28.0.1."""
    return FakeHost(directory=tmp_path)
