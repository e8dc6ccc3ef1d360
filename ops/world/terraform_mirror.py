"""Terraform's provider from a filesystem mirror on this machine, where it has a mirror."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ops.errors import ConfigError

VARIABLE = "TERRAFORM_PROVIDER_MIRROR"
_PROVIDER = Path("registry.terraform.io/hashicorp/aws")
# Usual places for files without a package; the search goes two folders deep.
_ROOTS = ("/opt", "/srv", "/usr/local/share/terraform", "/usr/share/terraform")


def discover() -> Path | None:
    """Return the folder of a filesystem mirror with the AWS provider, or None for Terraform's registry.

    Raises ConfigError when TERRAFORM_PROVIDER_MIRROR names a folder without the provider.
    """
    if named := os.environ.get(VARIABLE):
        if not (Path(named) / _PROVIDER).is_dir():
            raise ConfigError(
                f"{VARIABLE}={named} does not contain {_PROVIDER}",
                f"set {VARIABLE} to the folder that contains {_PROVIDER}",
            )
        return Path(named)
    return next((folder for root in _ROOTS for folder in _near(Path(root)) if (folder / _PROVIDER).is_dir()), None)


def cli_configuration(mirror: Path) -> str:
    """Return a Terraform CLI configuration that takes this provider from the mirror and all others from the registry."""
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
