"""Write docs/reference/environment.md from the rules: ``python -m ops.cli.environment_reference``."""

from __future__ import annotations

import os
import textwrap

from ops.world.environment import LOCALE, RULES

_HEAD = """# The environment of programs that `ops` runs

Generated from `ops/world/environment.py` by `python -m ops.cli.environment_reference`. Do not edit.
"""
_ABOUT = (
    "Terraform, Ansible, Docker Compose, restic, git, ssh and every other program that `ops` runs get the variables below from "
    f"the caller's environment and no others, {' and '.join(f'`{name}={value}`' for name, value in LOCALE.items())}, and those "
    "that `ops` sets for the program. The first row that matches decides; `*` matches any text. A stage of the gate is not "
    "such a program: it is the suite's own Python, with the caller's environment."
)
_TESTS = """
## The images of the test environment

`IMAGE_SET` is `auto`, `hermetic` or `upstream`. With `auto`, the default, a run asks a registry once:
if it has a manifest of every image, the run uses upstream's images, and otherwise the hermetic
ones, and prints the reason. The other two force a set.

`GROUND_REGISTRY` is the address of the registry to ask and to pull from, instead of Docker Hub.

`IMAGE_SET_FOUND` is set by the first process of a run for the others: the set, the reason and the
digests.

## The number of drawn site files

`tests/integration/test_drawn_sites.py` draws 200 site files and gives each accepted one to Terraform,
Ansible, Compose and nginx. `DRAWN_SITES` sets another number; each night the gate draws 5,000.
"""


def markdown() -> str:
    """Return the table of all rules."""
    rows = "".join(
        f"| {', '.join(f'`{name}`' for name in rule.names)} | {'kept' if rule.kept else 'dropped'} | {rule.reason} |\n"
        for rule in RULES
    )
    return f"{_HEAD}\n{textwrap.fill(_ABOUT, 100)}\n\n| variable | | reason |\n|---|---|---|\n{rows}{_TESTS}"


if __name__ == "__main__":
    os.write(1, markdown().encode())
