"""Every test file can be imported and collected for either image set, on a machine without a registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# No program listens on this port.
_NO_REGISTRY = "http://127.0.0.1:9"


@pytest.mark.parametrize("image_set", ["hermetic", "upstream"])
def test_tests_are_collected_for_both_image_sets_without_a_registry(image_set: str) -> None:
    environment = {**os.environ, "IMAGE_SET": image_set, "GROUND_REGISTRY": _NO_REGISTRY, "PYTHONPATH": str(ROOT)}
    for name in ("IMAGE_SET_FOUND", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    argv = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", "tests/integration"]
    done = subprocess.run(
        [*argv, "tests/disaster", "tests/e2e", "tests/bench"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Upstream has no stand-in whose answers could be compared.
    assert ("test_recordings.py" in done.stdout) is (image_set == "hermetic")
