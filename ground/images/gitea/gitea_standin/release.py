"""The release of Gitea that this image imitates: its version, its newest migration, and its fault."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
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


# Only the two releases with a faulty migration add one: a rollback from the others changes the image alone.
_DATABASE_VERSIONS = {
    "1.22.6": 299,
    "1.27.3": 328,
    "28.0.1": 336,
    "28.1.0": 338,
    "28.1.1-crash": 338,
    "28.1.1-hang": 338,
    "28.1.1-sour": 338,
    "28.1.1-flap": 338,
    "28.1.1-dies": 338,
    "28.1.1-midmigration": 340,
    "28.1.1-broken": 340,
    "28.1.1-forgets": 338,
}


def installed_release() -> Release:
    """The release of this image. Raises KeyError for an image with an unknown tag."""
    tag = Path("/app/gitea/VERSION").read_text().strip()
    version, _, fault = tag.partition("-")
    return Release(version, _DATABASE_VERSIONS[tag], Fault(fault))
