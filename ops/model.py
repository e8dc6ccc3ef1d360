"""Immutable values that decisions take and return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

# Time differences up to this are normal corrections of the clock.
CLOCK_DRIFT = timedelta(minutes=5)


class Secret:
    """A value that is not shown by accident: str, repr, format and JSON show only that it exists."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; call this only to pass it to its recipient."""
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
    """The credentials of the mail server."""

    username: str
    password: Secret


@dataclass(frozen=True)
class AccessKey:
    """An access key of an IAM user: its id, and whether it is active."""

    identity: str
    active: bool


@dataclass(frozen=True)
class Probe:
    """One check of the site: its name, whether the result is healthy, the observation, and the remedy."""

    name: str
    healthy: bool
    seen: str
    remedy: str = ""


@dataclass(frozen=True)
class Outputs:
    """Terraform's outputs: the site's public address and the ids of its resources."""

    public_address: str
    instance_id: str
    data_volume_id: str
    backup_bucket: str
    secret_names: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """A planned change of one resource (create, update, replace or destroy), with the attributes that differ.

    ``kind`` is the resource's type; ``differences`` are texts such as ``name: old -> new``.
    """

    address: str
    kind: str
    action: str
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccountFacts:
    """Facts about an AWS account before a site is made in it; None is an unanswered question, and ``unknown`` has the reasons.

    ``buckets`` has "free", "ours" or "foreign" for each requested name; ``namesakes`` are resources with the site's name,
    ``records`` the zone's records of the site's domain. ``machine`` is the reason against the instance type, "" for none.
    ``mail_identities`` are the domains, among those that verify the sender, for which SES has an identity.
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
    mail_identities: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ObjectVersion:
    """One version of an object in a bucket, or a delete ``marker``. ``latest`` is the version that the bucket shows."""

    key: str
    version: str
    modified: datetime
    latest: bool
    marker: bool = False
    etag: str = ""
    size: int = 0


@dataclass(frozen=True)
class BucketContents:
    """What a bucket contains: the number of object versions, the number of delete markers, and the total size in bytes.

    ``locked_until`` is when the bucket's object lock ends for the newest version; None without a lock or a version.
    """

    versions: int
    markers: int
    size: int
    locked_until: datetime | None = None


@dataclass(frozen=True)
class Report:
    """The result of a verb. ``facts`` is JSON-ready; ``lines`` is the same as text.

    Raises ValueError for a fact with the name of a key that every report has: the playbook reads ``changed``.
    """

    verb: str
    changed: bool
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    exit_code: int = 0

    def __post_init__(self) -> None:
        if taken := {"verb", "ok", "changed", "exit_code", "summary"}.intersection(self.facts):
            raise ValueError(f"facts named as keys of every report: {', '.join(sorted(taken))}")


@dataclass(frozen=True)
class Circumstances:
    """The circumstances of a stage: image set, images (reference to digest), tools, times (ISO 8601), command and sites.

    ``sites`` maps the name of each deployed site to its site file's digest. ``image_set_reason`` says why the stage ran on
    the set: what a registry answered, or which setting named it.
    """

    image_set: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    command: tuple[str, ...] = ()
    sites: Mapping[str, str] = field(default_factory=dict)
    image_set_reason: str = ""


@dataclass(frozen=True)
class Proof:
    """The stored files of a stage: the bytes of the envelope and of the JUnit file, None where there is no file."""

    envelope: bytes | None
    junit: bytes | None


@dataclass(frozen=True)
class Case:
    """One test of a JUnit file: full name, outcome (passed, failed, skipped), seconds, and recorded properties."""

    name: str
    outcome: str
    seconds: float
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether a stage is proven for a tree; if not, the reason and the remedy."""

    stage: str
    proven: bool
    reason: str
    remedy: str = ""
    statement: Mapping[str, Any] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()


def in_bytes(size: int) -> str:
    """Return a number of bytes as text with a binary unit."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


Confirm = Callable[[str, Sequence[str]], None]


@dataclass(frozen=True)
class UnitRun:
    """A running container of ``ops`` that a systemd unit started: its name, the unit and that start's invocation ID."""

    name: str
    unit: str
    invocation: str
