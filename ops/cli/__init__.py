"""The command line of `ops`."""
