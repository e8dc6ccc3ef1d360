"""Room on the disk, asked about before anything is begun."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ops.errors import Refused

# Measured: 3.1 GB of images and vendored packages, 2.5 GB inside a deployed host, and as much again to be safe.
NEEDED_GIB = 8


def require_space(tell: Callable[[str], None], where: Path = Path("/var/lib"), *, needed_gib: int = NEEDED_GIB) -> None:
    """Raise Refused, with both numbers, when the disk that holds Docker's data has less room than a run needs."""
    free = shutil.disk_usage(where).free / 2**30
    if free < needed_gib:
        raise Refused(
            f"{free:.1f} GiB are free below {where}, a run needs {needed_gib}", "docker system prune, or a larger disk"
        )
    tell(f"disk: {free:.0f} GiB free, {needed_gib} needed")
