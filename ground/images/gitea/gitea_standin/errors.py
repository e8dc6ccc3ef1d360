"""The error that every command may raise."""


class CommandError(Exception):
    """A command failed; the message follows "Command error:" on stderr."""
