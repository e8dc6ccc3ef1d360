"""The door to PyPI for images: locked packages, hash-checked, unpacked beside the program before the image is built.

A build that fetched them itself would need the machine's index settings inside the image's layers.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import uv

from ops.errors import Unavailable


def vendor(requirements: Path, target: Path, *, python_version: str) -> None:
    """Unpack the locked requirements for that Python on Debian into ``target``, which appears only when it is whole.

    Raises Unavailable with uv's own words when a package cannot be had or its hash is another.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    argv = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--requirements",
        str(requirements),
    ]
    argv += ["--target", str(partial), "--python-version", python_version]
    argv += ["--python-platform", f"{platform.machine()}-manylinux_2_36"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(
            f"packages of {requirements.name} cannot be had:\n{done.stderr}", "check the network, then run again"
        )
    partial.rename(target)
