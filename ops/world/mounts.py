"""The mounts that this process sees (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


def mounts_in(folder: Path, table: Path = _MOUNTINFO) -> tuple[Path, ...]:
    """Return the mount points at or below a folder, sorted."""
    lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    points = {Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), line.split(" ")[4])) for line in lines}
    return tuple(sorted(each for each in points if each.is_relative_to(folder)))
