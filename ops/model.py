"""Frozen values that the decisions take and return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

# A clock that is corrected by a little is no clock that was wrong.
CLOCK_DRIFT = timedelta(minutes=5)


class Secret:
    """A value that no one gets to see by accident: str, repr, format and JSON show only that it is there."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; call this only where it is handed to whom it is meant for."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(********)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True)
class SmtpCredentials:
    """With whom a mail server speaks."""

    username: str
    password: Secret


@dataclass(frozen=True)
class AccessKey:
    """A key of an IAM user: its id, and whether AWS accepts it."""

    identity: str
    active: bool


@dataclass(frozen=True)
class Probe:
    """One observation of the site: what was looked at, whether it is well, and what was seen."""

    name: str
    healthy: bool
    seen: str
    remedy: str = ""


@dataclass(frozen=True)
class Outputs:
    """What Terraform says exists: the address the site answers on, and the names of what it stands on."""

    public_address: str
    instance_id: str
    data_volume_id: str
    backup_bucket: str
    secret_names: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """What Terraform would do to one resource (create, update, replace or destroy), and which of its attributes differ.

    ``kind`` is the resource's type; ``differences`` are as a person reads them, ``name: old -> new``.
    """

    address: str
    kind: str
    action: str
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccountFacts:
    """What an AWS account says before a site is made in it; None is what it did not say, and ``unknown`` tells why.

    ``buckets`` has "free", "ours" or "foreign" for each name asked about; ``namesakes`` is what bears the site's name, ``records``
    what the zone tells of the site's domain. ``machine`` is what speaks against the wished type of machine, "" for nothing.
    """

    identity: str
    region_open: bool | None
    zone_found: bool | None
    vcpus_wanted: int | None
    vcpus_free: int | None
    addresses_free: int | None
    mail_to_anyone: bool | None
    buckets: Mapping[str, str]
    namesakes: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    machine: str | None = None


@dataclass(frozen=True)
class ObjectVersion:
    """One version of an object in a bucket, or a ``marker`` that it was taken away. ``latest`` is what the bucket shows."""

    key: str
    version: str
    modified: datetime
    latest: bool
    marker: bool = False
    etag: str = ""
    size: int = 0


@dataclass(frozen=True)
class BucketContents:
    """What a bucket holds: how many versions of objects, how many delete markers, and how many bytes in all.

    ``locked_until`` is when the bucket's own lock ends for the last version that was written; None without a lock or a version.
    """

    versions: int
    markers: int
    size: int
    locked_until: datetime | None = None


@dataclass(frozen=True)
class Report:
    """The result of a verb. ``facts`` is JSON-ready; ``lines`` is the same for a person."""

    verb: str
    changed: bool
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    exit_code: int = 0


@dataclass(frozen=True)
class Circumstances:
    """Under what a stage ran: the images (reference to digest) and which set they are of, the tools, when (ISO 8601), what, where.

    ``sites`` has the digest of each deployed site's file by the site's name.
    """

    image_set: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    command: tuple[str, ...] = ()
    sites: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """What is on file for a stage: the envelope's bytes and the JUnit file's, None where there is no file."""

    envelope: bytes | None
    junit: bytes | None


@dataclass(frozen=True)
class Case:
    """One test of a JUnit file: its full name, how it ended (passed, failed, skipped), its seconds, and what it recorded."""

    name: str
    outcome: str
    seconds: float
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether a stage is proven for a tree, and if not, why, and the command that proves it."""

    stage: str
    proven: bool
    reason: str
    remedy: str = ""
    statement: Mapping[str, Any] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()


def in_bytes(size: int) -> str:
    """Return a number of bytes as a person reads it."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


Confirm = Callable[[str, Sequence[str]], None]
