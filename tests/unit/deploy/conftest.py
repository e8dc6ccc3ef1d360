"""Fakes run instead of Terraform."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def any_program_for_terraform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Terraform's library is not among the packages of the unit tests, and the adapter wants a program."""
    monkeypatch.setenv("OPS_TERRAFORM", sys.executable)
