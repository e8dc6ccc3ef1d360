"""The sessions of one run have one image set: the first of them asks, and the others and their processes follow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import noxfile


class Session:
    """A session with this Python's packages."""

    bin = str(Path(sys.executable).parent)

    def install(self, *arguments: str) -> None:
        """Install nothing."""

    def log(self, *arguments: str) -> None:
        """Print nothing."""


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that the variables that the choice sets go with the test.
    for name in ("IMAGE_SET", "IMAGE_SET_FOUND"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    # No program listens on this port.
    monkeypatch.setenv("GROUND_REGISTRY", "http://127.0.0.1:9")


def test_the_first_session_passes_the_image_set_and_its_reason_on(monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = Session()
    noxfile._choose_images(session)
    found = json.loads(os.environ["IMAGE_SET_FOUND"])
    assert (os.environ["IMAGE_SET"], found["set"]) == ("hermetic", "hermetic")
    assert found["reason"] == "there is no route to the registry http://127.0.0.1:9"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("the registry was asked again"))
    noxfile._choose_images(session)


def test_a_wrong_image_set_ends_the_run_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SET", "some")
    session: Any = Session()
    with pytest.raises(SystemExit) as ended:
        noxfile._choose_images(session)
    assert ended.value.code == 2
