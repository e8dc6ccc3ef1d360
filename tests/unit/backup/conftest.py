"""Fixtures of the tests of backups."""

from __future__ import annotations

import pytest

from ops.wal import base_backups


@pytest.fixture
def without_base_backups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take backups without a base backup of the database, which has tests of its own."""
    monkeypatch.setattr(base_backups, "refresh", lambda *_: None)
