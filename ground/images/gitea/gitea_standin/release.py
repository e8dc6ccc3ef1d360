"""The release of Gitea that this image imitates: its version and its newest migration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Release:
    """One release; `database_version` is the number of its newest migration plus one, as in Gitea."""

    version: str
    database_version: int

    def since(self, *numbers: int) -> bool:
        """Whether it is Gitea `numbers` or later: `since(1, 26)`."""
        return tuple(map(int, re.findall(r"\d+", self.version))) >= numbers


# 1.22.6, 1.26.4 and 1.27.0 are recorded; 28.x is known to begin after 343.
_DATABASE_VERSIONS = {
    "1.22.6": 299,
    "1.26.4": 331,
    "1.27.0": 343,
    "1.27.3": 343,
    "28.0.1": 351,
    "28.1.0": 353,
}


@cache
def installed_release() -> Release:
    """The release of this image. Raises KeyError for an image with an unknown tag."""
    tag = Path("/app/gitea/VERSION").read_text().strip()
    return Release(tag, _DATABASE_VERSIONS[tag])
