"""The ways an operation can end other than well. The exit code says in what state the system was left."""

from __future__ import annotations


class OpsError(Exception):
    """Base of every foreseen failure.

    ``message`` names what is wrong. ``left_as`` says in what state the system was left ("nothing was changed").
    ``hint`` is the operator's next step: an imperative with a command. ``exit_code`` is the process's.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, left_as: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.left_as = left_as


class ConfigError(OpsError):
    """Wrong invocation or site file; nothing was touched."""

    exit_code = 2


class Degraded(OpsError):
    """Finished, but not wholly: a check is red."""

    exit_code = 3


class Refused(OpsError):
    """A precondition said no; nothing was changed, or the message tells of what was before it could be asked."""

    exit_code = 4


class RolledBack(OpsError):
    """The operation failed; the previous state is back and healthy."""

    exit_code = 5


class Stranded(OpsError):
    """The operation failed and so did its undo; the message names the backup and the next command."""

    exit_code = 6


class Unavailable(OpsError):
    """AWS, Docker, a registry or the network is out of reach; try again later."""

    exit_code = 7


class Locked(OpsError):
    """Another run holds the lock, or was cut off; the message says which, and since when or what ends it."""

    exit_code = 8
