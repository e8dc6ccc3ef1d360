"""Terraform's provider without its registry: a mirror that lies on this machine, where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ops.errors import ConfigError

VARIABLE = "TERRAFORM_PROVIDER_MIRROR"
_PROVIDER = Path("registry.terraform.io/hashicorp/aws")
# Where people put what no package manager put there; one and two folders below each.
_ROOTS = ("/opt", "/srv", "/usr/local/share/terraform", "/usr/share/terraform")


def discover() -> Path | None:
    """Return the folder of a filesystem mirror that holds the AWS provider, or None where Terraform's registry must serve.

    TERRAFORM_PROVIDER_MIRROR names one and then must hold it, else ConfigError is raised.
    """
    if named := os.environ.get(VARIABLE):
        if not (Path(named) / _PROVIDER).is_dir():
            raise ConfigError(f"{VARIABLE}={named} holds no {_PROVIDER}", "name the folder above the registry's name")
        return Path(named)
    return next((folder for root in _ROOTS for folder in _near(Path(root)) if (folder / _PROVIDER).is_dir()), None)


def cli_configuration(mirror: Path) -> str:
    """Return a Terraform CLI configuration that takes providers from the mirror, and what it has not from the registry."""
    return f"""provider_installation {{
  filesystem_mirror {{
    path    = "{mirror}"
    include = ["{_PROVIDER}"]
  }}
  direct {{
    exclude = ["{_PROVIDER}"]
  }}
}}
"""


def _near(root: Path) -> Iterator[Path]:
    yield root
    for pattern in ("*", "*/*"):
        yield from sorted(folder for folder in root.glob(pattern) if folder.is_dir())
