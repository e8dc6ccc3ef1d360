"""The release of Gitea that this image imitates: its version, its newest migration, and its fault."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path


class Fault(Enum):
    """The faults of a bad release; README.md describes them."""

    NONE = ""
    CRASH = "crash"
    HANG = "hang"
    SOUR = "sour"
    FLAP = "flap"
    DIES = "dies"
    MIDMIGRATION = "midmigration"
    BROKEN = "broken"
    FORGETS = "forgets"


@dataclass(frozen=True)
class Release:
    """One release; `database_version` is the number of its newest migration plus one, as in Gitea."""

    version: str
    database_version: int
    fault: Fault = Fault.NONE

    def since(self, *numbers: int) -> bool:
        """Whether it is Gitea `numbers` or later: `since(1, 26)`."""
        return tuple(map(int, re.findall(r"\d+", self.version))) >= numbers


# 1.22.6, 1.26.4 and 1.27.0 are recorded; 28.x is known to begin after 343. Only the two releases with a faulty migration
# add one to 28.1.0: a rollback from the others changes the image alone.
_DATABASE_VERSIONS = {
    "1.22.6": 299,
    "1.26.4": 331,
    "1.27.0": 343,
    "1.27.3": 343,
    "28.0.1": 351,
    "28.1.0": 353,
    "28.1.1-crash": 353,
    "28.1.1-hang": 353,
    "28.1.1-sour": 353,
    "28.1.1-flap": 353,
    "28.1.1-dies": 353,
    "28.1.1-midmigration": 355,
    "28.1.1-broken": 355,
    "28.1.1-forgets": 353,
}


@cache
def installed_release() -> Release:
    """The release of this image. Raises KeyError for an image with an unknown tag."""
    tag = Path("/app/gitea/VERSION").read_text().strip()
    version, _, fault = tag.partition("-")
    return Release(version, _DATABASE_VERSIONS[tag], Fault(fault))
