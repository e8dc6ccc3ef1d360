"""Paths of files on the host, and the names that containers share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

DATA_DIRECTORY = "/srv/gitea"
BACKUP_DIRECTORY = "/var/backups/gitea-suite"
SECRETS_DIRECTORY = "/run/gitea-suite/secrets"
HOST_SITE_FILE = "/etc/gitea-suite/site.json"
PROJECT = "gitea-suite"
LOCALHOST = "127.0.0.1"
COMPOSE_DIRECTORY = Path("/opt/gitea-suite/compose")


@dataclass(frozen=True)
class HostPaths:
    """The paths and names on the host that backups, restores and updates use. ``watchdog_image`` is the image of ``ops``."""

    data: Path = Path(DATA_DIRECTORY)
    secrets: Path = Path(SECRETS_DIRECTORY)
    local: Path = Path(BACKUP_DIRECTORY, "restic")
    cache: Path = Path(BACKUP_DIRECTORY, "cache")
    lock: Path = Path("/run/gitea-suite/operation.lock")
    configuration: tuple[Path, ...] = (
        Path("/etc/gitea-suite"),
        Path("/opt/gitea-suite"),
        Path(DATA_DIRECTORY, "letsencrypt"),
    )
    project: str = PROJECT
    watchdog_image: str = field(default_factory=lambda: os.environ.get("OPS_IMAGE", ""))

    @property
    def live(self) -> Path:
        """Gitea's data."""
        return self.data / "gitea"

    @property
    def wal(self) -> Path:
        """The folder in which WAL is received and waits for the bucket."""
        return self.local.parent / "wal"

    @property
    def disk_seen(self) -> Path:
        """A marker file on the data disk. It exists once the disk was backed up, or restored from a backup."""
        return self.data / ".backed-up"

    @property
    def pending(self) -> Path:
        """Manifests of backups that are on this host and not yet in the bucket."""
        return self.local.parent / "pending"

    @property
    def snapshot(self) -> Path:
        """The snapshot of Gitea's data while it is copied. The path is constant, so that restic finds its parent."""
        return self.data / ".moment" / "gitea"

    def snapshot_of(self, identity: str) -> Path:
        """The snapshot of the newest backup on this host, with which the next one is compared."""
        return self.snapshot.with_name(identity)

    @property
    def newest(self) -> Path:
        """The manifest of the newest backup that was made on this host."""
        return self.local.parent / "newest.json"
