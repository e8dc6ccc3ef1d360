"""Fixtures of the tests of a restore."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from ops.model import Secret
from ops.stack import accounts
from tests.support.fake_restore_host import FakeRestoreHost


@pytest.fixture
def administrators(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The content of the database at each time that the administrator was made; the list grows."""
    asked: list[str] = []
    monkeypatch.setattr(accounts, "ensure_admin", lambda site, world: asked.append(world.content()))
    return asked


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gitea gives a token."""
    monkeypatch.setattr(accounts, "token", lambda site, world: nullcontext(Secret("t")))


@pytest.fixture
def host(tmp_path: Path, administrators: list[str], token: None) -> FakeRestoreHost:
    """A host with a site and a backup."""
    return FakeRestoreHost(directory=tmp_path)
