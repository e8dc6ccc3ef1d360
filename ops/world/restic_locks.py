"""The locks of a restic repository: their holders, and the wait for one of them.

restic refreshes a lock every five minutes. After thirty without a refresh it is stale, and its holder is gone (restic 0.18,
internal/repository/lock.go, internal/restic/lock.go).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ops.errors import Locked
from ops.world.clock import Clock

# How long a command waits for a lock, how often it tries again, and how often it reports that it waits.
PATIENCE_SECONDS, TELL_SECONDS = 300.0, 15.0
_PACE_SECONDS = 5.0
STALE = timedelta(minutes=30)
# restic's message of exit code 11: "already locked exclusively by PID 4242 on host by root (UID 0, GID 0) lock was created at ...".
_HOLDER = re.compile(
    r"locked (?P<exclusive>exclusively )?by PID (?P<pid>\d+) on (?P<host>\S+) by .*?created at (?P<since>\d\S+ [\d:]+)"
)


@dataclass(frozen=True)
class LockHolder:
    """The process that took a lock: its host's name, its pid there, and the last refresh of the lock."""

    host: str
    pid: int
    refreshed: datetime
    exclusive: bool

    @classmethod
    def from_json(cls, text: str) -> LockHolder:
        """Return the holder from restic's document of a lock."""
        document = json.loads(text)
        # restic writes nanoseconds; a datetime holds microseconds.
        refreshed = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", document["time"]))
        return cls(document["hostname"], int(document["pid"]), refreshed, bool(document["exclusive"]))

    def __str__(self) -> str:
        """Return the holder for a message."""
        kind = "exclusive lock" if self.exclusive else "lock"
        return f"{kind} of process {self.pid} on {self.host}, last refreshed {self.refreshed:%Y-%m-%d %H:%M:%S} {self.refreshed:%Z}"

    def is_stale(self, now: datetime) -> bool:
        """Return whether a running holder would have refreshed the lock since."""
        return now - self.refreshed > STALE


class LockWait:
    """The wait of one command for a lock: reports the holder and the end of the wait every 15 seconds."""

    def __init__(self, repository: str, clock: Clock, tell: Callable[[str], None]) -> None:
        self._repository, self._clock, self._tell = repository, clock, tell
        self._began, self._told = 0.0, 0.0
        self._until: datetime | None = None

    def goes_on(self, output: str) -> bool:
        """Wait a moment and return True, or return False when the time is up; ``output`` is restic's message."""
        now = self._clock.monotonic()
        if self._until is None:
            self._began, self._told = now, now - TELL_SECONDS
            self._until = self._clock.now() + timedelta(seconds=PATIENCE_SECONDS)
        if now - self._began >= PATIENCE_SECONDS:
            return False
        if now - self._told >= TELL_SECONDS:
            self._told = now
            self._tell(f"{self._repository} is locked by {holder_in(output)}: waiting until {self._until:%H:%M:%S} UTC")
        self._clock.sleep(_PACE_SECONDS)
        return True


def holder_in(output: str) -> str:
    """Return the holder of a lock from restic's message that a repository is locked, or the message."""
    words = " ".join(output.split())
    found = _HOLDER.search(words)
    if not found:
        return words[-200:]
    exclusively = ", exclusively" if found["exclusive"] else ""
    return f"process {found['pid']} on {found['host']}, since {found['since']}{exclusively}"


def locked(repository: str, output: str) -> Locked:
    """Return the error for a lock that was not released in time; ``output`` is restic's message."""
    return Locked(
        f"{repository} is locked by {holder_in(output)}",
        "wait until that run has ended; if its host or process no longer exists, run ops backup unlock",
    )
