"""Run Terraform by hand: ``python -m ops.cli.terraform ARGUMENTS``, as `./noxw -s terraform` does."""

from __future__ import annotations

import os
import sys

from ops.errors import OpsError
from ops.world import terraform_program


def main() -> None:
    """Replace this process by the Terraform of ops; exits with the error's code when there is none."""
    try:
        program = terraform_program.command()
    except OpsError as error:
        sys.stderr.write(f"{error.message}\nnext: {error.hint}\n")
        sys.exit(error.exit_code)
    os.execv(program[0], [*program, *sys.argv[1:]])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
