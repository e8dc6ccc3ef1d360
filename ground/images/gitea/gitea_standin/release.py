"""Which release of Gitea this image stands for: its version, its newest migration, and how it is broken."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

VERSION_FILE = Path("/app/gitea/VERSION")


class Fault(Enum):
    """The ways in which a release can be bad."""

    NONE = ""
    CRASH = "crash"
    HANG = "hang"
    SOUR = "sour"
    FLAP = "flap"
    DIES = "dies"
    MIDMIGRATION = "midmigration"
    BROKEN = "broken"


@dataclass(frozen=True)
class Release:
    """One release; `database_version` is Gitea's: the number of its newest migration plus one."""

    version: str
    database_version: int
    fault: Fault = Fault.NONE


# Only the two whose fault concerns migrations bring one along: going back from the others needs the image alone.
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
}


def release_of(tag: str) -> Release:
    """The release an image tag stands for. Raises KeyError for a tag that is none of ours."""
    version, _, fault = tag.partition("-")
    return Release(version, _DATABASE_VERSIONS[tag], Fault(fault))


def installed_release() -> Release:
    """The release this image was built as."""
    return release_of(VERSION_FILE.read_text().strip())
