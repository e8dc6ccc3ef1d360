"""The door to PyPI for images: locked packages, hash-checked, unpacked beside the program before the image is built.

A build that fetched them itself would need the machine's index settings inside the image's layers.
"""

from __future__ import annotations

import platform
import subprocess
import tempfile
from pathlib import Path

import uv

from ops.errors import Unavailable


def vendor(requirements: Path, target: Path, *, python_version: str) -> None:
    """Unpack the locked requirements for that Python on Debian into ``target``, which appears only when it is whole.

    Raises Unavailable with uv's own words when a package cannot be had or its hash is another.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        unpacked = Path(folder) / target.name
        argv = [uv.find_uv_bin(), "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        argv += ["--requirements", str(requirements), "--target", str(unpacked), "--python-version", python_version]
        argv += ["--python-platform", f"{platform.machine()}-manylinux_2_36"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(
                f"packages of {requirements.name} cannot be had:\n{done.stderr}", "check the network, then run again"
            )
        try:
            unpacked.rename(target)
        except OSError:
            # Another run was quicker; what it unpacked has the same hashes.
            if not target.is_dir():
                raise
