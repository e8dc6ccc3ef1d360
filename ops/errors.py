"""The errors of operations. The exit code tells the state that the system was left in."""

from __future__ import annotations


class OpsError(Exception):
    """Base class of all expected failures.

    ``message`` names the problem. ``left_as`` is the state that the system was left in ("nothing was changed").
    ``hint`` is the operator's next step: an imperative with a command. ``exit_code`` is the process's exit code.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, left_as: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.left_as = left_as


class ConfigError(OpsError):
    """Wrong invocation or site file; nothing was changed."""

    exit_code = 2


class Degraded(OpsError):
    """The operation finished, but a check failed."""

    exit_code = 3


class Refused(OpsError):
    """A precondition is not met; nothing was changed, or the error names the changes made before the check."""

    exit_code = 4


class RolledBack(OpsError):
    """The operation failed; the previous state is back and healthy."""

    exit_code = 5


class Stranded(OpsError):
    """The operation and its undo failed; the error names the backup and the next command."""

    exit_code = 6


class Unavailable(OpsError):
    """AWS, Docker, a registry or the network is out of reach; try again later."""

    exit_code = 7


class Locked(OpsError):
    """Another run holds the lock or was interrupted; the message names the run, and since when it runs or how to end it."""

    exit_code = 8
