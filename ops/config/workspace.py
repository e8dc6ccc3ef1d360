"""Where a deployment reads its sources and keeps its state between runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """Where a deployment reads its sources and keeps what it must remember of the site between runs."""

    repository: Path
    state: Path
    cache: Path

    @property
    def lock(self) -> Path:
        """The lock of whoever changes the site."""
        return self.state / "deploy.lock"

    @property
    def known_hosts(self) -> Path:
        """The file that keeps the host's ssh key."""
        return self.state / "known_hosts"

    @property
    def outputs(self) -> Path:
        """The file that keeps Terraform's outputs."""
        return self.state / "outputs.json"
