"""Write docs/reference/environment.md from the two tables: ``python -m ops.cli.environment_reference``."""

from __future__ import annotations

import os
import textwrap

from ops.world.environment import LOCALE, RULES
from ops.world.variables import VARIABLES

_HEAD = """# The environment

Generated from `ops/world/variables.py` and `ops/world/environment.py` by
`python -m ops.cli.environment_reference`. Do not edit.

## The variables that the suite reads

All are optional: the two commands of the [README](../../README.md#quick-start) need none of them.

"""
_BY_SUITE = """
The suite sets these for its own processes:

"""
_PROGRAMS = """
## The environment of programs that `ops` runs

"""
_ABOUT = (
    "Terraform, Ansible, Docker Compose, restic, git, ssh and every other program that `ops` runs get the variables below from "
    f"the caller's environment and no others, {' and '.join(f'`{name}={value}`' for name, value in LOCALE.items())}, and those "
    "that `ops` sets for the program. The first row that matches decides; `*` matches any text. A stage of the gate is not "
    "such a program: it is the suite's own Python, with the caller's environment."
)


def markdown() -> str:
    """Return the tables of the variables that the suite reads, and of those that programs get."""
    rules = "".join(
        f"| {', '.join(f'`{name}`' for name in rule.names)} | {'kept' if rule.kept else 'dropped'} | {rule.reason} |\n"
        for rule in RULES
    )
    programs = f"{_PROGRAMS}{textwrap.fill(_ABOUT, 100)}\n\n| variable | | reason |\n|---|---|---|\n{rules}"
    return f"{_HEAD}{_own(by_suite=False)}{_BY_SUITE}{_own(by_suite=True)}{programs}"


def _own(*, by_suite: bool) -> str:
    rows = (f"| `{each.name}` | {each.meaning} |\n" for each in VARIABLES if each.by_suite is by_suite)
    return f"| variable | meaning |\n|---|---|\n{''.join(rows)}"


if __name__ == "__main__":
    os.write(1, markdown().encode())
