"""The error every command may end with."""


class CommandError(Exception):
    """A command failed; the message follows "Command error:" on stderr."""
