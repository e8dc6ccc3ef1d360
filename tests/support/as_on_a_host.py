"""Runs `ops` in its image as on a host, for a small site with its own folders and its own Compose project."""

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from ops.backup import freeze
from ops.cli import commands, main
from ops.config import paths
from ops.stack import accounts
from ops.world import World, restic, restic_locks
from ops.world.clock import Clock

FOLDER, PROJECT = Path(os.environ["SMALL_SITE"]), os.environ["SMALL_SITE_PROJECT"]
DATA, BACKUPS = FOLDER / "data", Path(os.environ["SMALL_SITE_BACKUPS"])

# The standard paths of a host, which are the defaults of a call without paths.
vars(accounts)["PROJECT"] = PROJECT
*_, WATCHMAN = paths.HostPaths.__init__.__defaults__ or ()
paths.HostPaths.__init__.__defaults__ = (
    DATA,
    FOLDER / "secrets",
    BACKUPS / "restic",
    BACKUPS / "cache",
    DATA / "operation.lock",
    (FOLDER / "configuration", DATA / "letsencrypt"),
    PROJECT,
    WATCHMAN,
)
# Tests do not wait for minutes, but a busy machine must not fail them: a pause of Gitea may take long.
vars(freeze)["FROZEN_SECONDS"] = 60.0
restic.PATIENCE_SECONDS, restic_locks.PATIENCE_SECONDS = 2.0, 1.0


class TestClock(Clock):
    """A clock that is behind or stopped."""

    def now(self) -> datetime:
        """Return the time that the test sets."""
        if stopped := os.environ.get("SMALL_SITE_STOPPED_CLOCK"):
            return datetime.fromisoformat(stopped)
        return datetime.now(UTC) - timedelta(seconds=float(os.environ.get("SMALL_SITE_CLOCK_BEHIND", "0")))


vars(commands)["World"] = partial(World, clock=TestClock())
main.main()
