"""The check for free disk space, before anything is started."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ops.errors import Refused

# Measured: 3.1 GB of images and vendored packages, 2.5 GB inside a deployed host, and as much again to be safe.
NEEDED_GIB = 8


def require_space(
    tell: Callable[[str], None], folder: Path = Path("/var/lib"), *, needed_gib: int = NEEDED_GIB
) -> None:
    """Raise Refused, with both numbers, when the disk with Docker's data has less free space than a run needs."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < needed_gib:
        raise Refused(
            f"{free:.1f} GiB are free below {folder}, a run needs {needed_gib}",
            "free disk space (for example: docker system prune) or enlarge the disk",
            left_as="nothing was changed",
        )
    tell(f"disk: {free:.0f} GiB free, {needed_gib} needed")
