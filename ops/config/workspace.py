"""The folders in which a deployment reads its sources and keeps its state between runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ops.config.regular_files import read_text
from ops.errors import ConfigError, Refused


def state_of(site_file: Path, name: str) -> Path:
    """Return the folder beside a site file in which the deployments of the site ``name`` keep its state."""
    return site_file.parent / ".state" / name


@dataclass(frozen=True)
class Workspace:
    """The folders of a deployment: its sources, the state of the site between runs, and a cache."""

    repository: Path
    state: Path
    cache: Path

    @property
    def lock(self) -> Path:
        """The lock of a run that changes the site."""
        return self.state / "deploy.lock"

    @property
    def known_hosts(self) -> Path:
        """The file with the host's ssh key."""
        return self.state / "known_hosts"

    @property
    def outputs(self) -> Path:
        """The file with Terraform's outputs."""
        return self.state / "outputs.json"

    def require_sound(self) -> None:
        """Raise Refused when the outputs of an earlier deployment exist and cannot be used."""
        if not self.outputs.exists():
            return
        hint = f"remove {self.outputs}, then run ops deploy, which writes it again"
        try:
            sound = isinstance(json.loads(read_text(self.outputs, "the state of the deployment", hint)), dict)
        except (ConfigError, ValueError, RecursionError):
            sound = False
        if not sound:
            raise Refused(f"{self.outputs} is damaged", hint, left_as="nothing was changed")
