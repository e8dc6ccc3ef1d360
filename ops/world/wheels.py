"""The adapter for PyPI: locked, hash-checked packages for images, unpacked before the image is built.

A build that downloaded them itself would put the machine's index settings into the image's layers.
"""

from __future__ import annotations

import platform
import subprocess
import tempfile
from pathlib import Path

import uv

from ops.errors import Unavailable
from ops.world.environment import environment_for


def vendor(requirements: Path, target: Path, *, python_version: str) -> None:
    """Unpack the locked requirements for that Python on Debian into ``target``, which appears only when it is complete.

    Raises Unavailable with uv's own message when a package cannot be downloaded or its hash differs.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        unpacked = Path(folder) / target.name
        argv = [uv.find_uv_bin(), "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        argv += ["--requirements", str(requirements), "--target", str(unpacked), "--python-version", python_version]
        argv += ["--python-platform", f"{platform.machine()}-manylinux_2_36"]
        done = subprocess.run(argv, env=environment_for(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(
                f"packages of {requirements.name} cannot be downloaded:\n{done.stderr}",
                "check the network, then run the command again",
            )
        try:
            unpacked.rename(target)
        except OSError:
            # Another run was faster; its packages have the same hashes.
            if not target.is_dir():
                raise
