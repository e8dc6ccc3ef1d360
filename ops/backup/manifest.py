"""The manifest of a backup: one JSON document in the bucket, written after all parts of the backup are there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.errors import OpsError

SCHEMA = 1
PREFIX = "manifests/"
# The parts of every backup: the database's dump, Gitea's data as of that moment, and the host's configuration.
PARTS = ("database", "data", "configuration")
_NEVER = datetime.min.replace(tzinfo=UTC)


class Unreadable(OpsError):
    """A manifest that is truncated, or was written by a newer suite. It does not count as a backup."""


@dataclass(frozen=True)
class Part:
    """One restic snapshot of a backup: its id in the remote repository and in the local one, and its size in bytes."""

    remote: str
    local: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """One backup. ``moment`` is when Gitea was frozen; everything in the backup is of that moment.

    ``parts`` maps each of PARTS to its snapshot. ``stored`` is the number of bytes that the backup added to a repository.
    ``versions`` has gitea, postgresql, restic and suite; ``migration`` is Gitea's number of the database's schema.
    ``images`` maps a service to its image with digest. ``rows`` counts the rows of the main tables. ``repositories`` maps
    owner/name.git to a digest of all its refs. ``paused`` is the number of seconds without writes, ``photographed`` whether the
    file system took a snapshot of the data. ``secret_key`` is a digest of Gitea's SECRET_KEY: without that key, some columns of
    the database cannot be read. ``durations`` has the seconds of each step. ``position`` is the WAL position of the moment,
    of the database with the system identifier ``system``; both are "" in a backup from before WAL was shipped. ``missing`` has the
    repositories that Gitea's table or the file system had at the moment and ``repositories`` lacks, ``links`` the symbolic
    links that leave the data; ``missing`` is None in a backup from before they were counted.
    """

    identity: str
    site: str
    domain: str
    moment: datetime
    finished: datetime
    parts: Mapping[str, Part]
    stored: int
    versions: Mapping[str, str]
    migration: int
    images: Mapping[str, str]
    rows: Mapping[str, int]
    repositories: Mapping[str, str]
    paused: float
    photographed: bool
    secret_key: str
    durations: Mapping[str, float] = field(default_factory=dict)
    system: str = ""
    position: str = ""
    missing: Collection[str] | None = None
    links: Collection[str] = ()


@dataclass(frozen=True)
class Backup:
    """A backup as the bucket shows it: whole with a manifest, or without one and ``broken`` gives the reason.

    ``verified`` is when it last passed a verification, ``drilled`` when it was last restored into a scratch site. ``lost``
    means that parts are missing from the repository.
    """

    identity: str
    manifest: Manifest | None
    broken: str = ""
    verified: datetime | None = None
    drilled: datetime | None = None
    lost: bool = False


def identity_of(moment: datetime) -> str:
    """Return the name of a backup: its moment in UTC to the second, which sorts as time does."""
    return f"{moment:%Y%m%dT%H%M%SZ}"


def moment_of(identity: str) -> datetime:
    """Return the moment in a backup's name; raises Unreadable for any other name."""
    try:
        return datetime.strptime(identity, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise Unreadable(
            f"{identity} is not the name of a backup", "remove foreign objects below manifests/ in the bucket"
        ) from error


def behind(now: datetime, identities: Collection[str]) -> timedelta:
    """Return how far a clock is behind the newest backup, zero if it is not."""
    return max(timedelta(), max((_moment_or_none(each) for each in identities), default=_NEVER) - now)


def moment_after(now: datetime, identities: Collection[str]) -> datetime:
    """Return the moment of a backup that is taken now: later than those of all earlier backups, whatever the clock says.

    After a clock was set back, or within one second of another backup, a backup must not get the name of an earlier one or
    sort before it.
    """
    last = max((_moment_or_none(each) for each in identities), default=_NEVER)
    return last + timedelta(seconds=1) if last >= now.replace(microsecond=0) else now


def key_of(identity: str) -> str:
    """Return the bucket's key of a backup's manifest."""
    return f"{PREFIX}{identity}.json"


def to_json(manifest: Manifest) -> bytes:
    """Return the manifest as stored in the bucket."""
    document = {"schema": SCHEMA, **dataclasses.asdict(manifest)}
    # Absent in a manifest from before they were recorded.
    if manifest.missing is None:
        del document["missing"], document["links"]
    return json.dumps(document, indent=1, sort_keys=True, default=_moment_as_text).encode()


def from_json(content: bytes) -> Manifest:
    """Return a manifest from the bucket; raises Unreadable for one that is truncated, foreign or newer."""
    try:
        document = json.loads(content)
        schema = document.pop("schema")
        if schema != SCHEMA:
            raise Unreadable(f"its schema is {schema}, this suite reads {SCHEMA}", "use the suite that wrote it")
        document["parts"] = {name: Part(**part) for name, part in document["parts"].items()}
        for name in ("moment", "finished"):
            document[name] = datetime.fromisoformat(document[name])
        return Manifest(**document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable("its manifest is truncated or foreign", "run ops backup take for a new backup") from error


def check_backup(identity: str, content: bytes, remote: Collection[str], needed: Collection[str] = PARTS) -> Backup:
    """Return the backup of a manifest; ``remote`` has the ids of all snapshots in the remote repository.

    The backup is broken if the manifest is unreadable, names another backup, or misses one of its ``needed`` parts.
    """
    try:
        manifest = from_json(content)
    except Unreadable as error:
        return Backup(identity, None, error.message)
    missing = [name for name in needed if name not in manifest.parts or manifest.parts[name].remote not in remote]
    if manifest.identity != identity:
        return Backup(identity, None, f"its manifest is that of {manifest.identity}")
    if missing:
        return Backup(identity, None, f"{' and '.join(missing)} missing from the remote repository", lost=True)
    return Backup(identity, manifest)


def _moment_or_none(identity: str) -> datetime:
    try:
        return moment_of(identity)
    except Unreadable:
        return _NEVER


def _moment_as_text(value: Any) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
