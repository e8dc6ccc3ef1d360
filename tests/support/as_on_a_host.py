"""`ops`, run in its image as on a host, but for a small site whose places lie in a folder, under a project of its own."""

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

# What a host has in its standard places, and a call without places gets.
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
# No one waits for minutes in a test, and a busy machine is not what is tested: the site stands still as long as it takes.
vars(freeze)["FROZEN_SECONDS"] = 60.0
restic.PATIENCE_SECONDS, restic_locks.PATIENCE_SECONDS = 2.0, 1.0


class Stopped(Clock):
    """A clock that is behind, or stands still."""

    def now(self) -> datetime:
        """Return the time that the test wants it to be."""
        if stopped := os.environ.get("SMALL_SITE_STOPPED_CLOCK"):
            return datetime.fromisoformat(stopped)
        return datetime.now(UTC) - timedelta(seconds=float(os.environ.get("SMALL_SITE_CLOCK_BEHIND", "0")))


vars(commands)["World"] = partial(World, clock=Stopped())
main.main()
