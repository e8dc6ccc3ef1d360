"""Packages for images are unpacked in a temporary folder and then renamed; uv is a test double."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.errors import Unavailable
from ops.world import wheels


def _unpack(argv: Sequence[str]) -> Any:
    folder = Path(argv[argv.index("--target") + 1])
    folder.mkdir()
    (folder / "package.py").touch()
    return SimpleNamespace(returncode=0, stderr="")


def test_two_runs_can_fetch_the_same_packages_at_the_same_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target, begun = tmp_path / "cache/packages-0a", []

    def run(argv: Sequence[str], **_: object) -> Any:
        begun.append(argv)
        done = _unpack(argv)
        if len(begun) == 1:
            # The second run begins now and ends first.
            wheels.vendor(tmp_path / "a.txt", target, python_version="3.13")
        return done

    monkeypatch.setattr(subprocess, "run", run)
    wheels.vendor(tmp_path / "a.txt", target, python_version="3.13")
    assert len(begun) == 2
    assert [each.relative_to(target.parent).as_posix() for each in target.parent.rglob("*.py")] == [
        "packages-0a/package.py"
    ]
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_download_leaves_no_folder_and_reports_uv_s_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(argv: Sequence[str], **_: object) -> Any:
        _unpack(argv)
        return SimpleNamespace(returncode=1, stderr="hash mismatch")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(Unavailable, match="hash mismatch"):
        wheels.vendor(tmp_path / "a.txt", tmp_path / "cache/packages-0a", python_version="3.13")
    assert list((tmp_path / "cache").iterdir()) == []
