"""The folders in which a deployment reads its sources and keeps its state between runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
