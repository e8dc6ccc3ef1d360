"""The adapter for programs that are not installed on this machine: each runs in a container, which is then removed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.world.process import Finished, Processes, Tell

_LABEL = "gitea-suite.errand"


@dataclass(frozen=True)
class ContainerProcesses(Processes):
    """Runs programs of an image as this process's own user, on this machine's network, with folders of this machine mounted.

    ``name`` is the containers' host name; a program that keeps locks recognizes its own locks by it. The command line has
    only the names of ``environment``'s variables, so the values do not show in the process list.
    """

    image: str
    name: str
    folders: tuple[Path, ...] = ()

    def output(self, argv: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> Finished:
        """Run a program to its end, as ``Processes.output`` does."""
        return Processes().output(self._around(argv, environment), directory=directory, environment=environment)

    def pipe(
        self, source: Sequence[str], sink: Sequence[str], *, environment: Mapping[str, str], tell: Tell
    ) -> Finished:
        """Run two programs, the first of them in the image, as ``Processes.pipe`` does."""
        return Processes().pipe(self._around(source, environment), sink, environment=environment, tell=tell)

    def _started(
        self,
        argv: Sequence[str],
        directory: Path | None,
        environment: Mapping[str, str] | None,
        *rest: Any,
        **named: Any,
    ) -> subprocess.Popen[str]:
        """Start a program in the image; the other methods of ``Processes`` use this."""
        return super()._started(self._around(argv, environment), directory, environment, *rest, **named)

    def is_running(self) -> bool:
        """Return whether a container of that name runs. It may outlive a killed run of ``ops``."""
        chosen = f"label={_LABEL}={self.name}"
        return bool(Processes().run(["docker", "ps", "--quiet", "--filter", chosen]).output.strip())

    def _around(self, argv: Sequence[str], environment: Mapping[str, str] | None) -> list[str]:
        mounts = [f"--mount=type=bind,source={each},target={each}" for each in self.folders]
        return [
            *("docker", "run", "--rm", "--init", "--pull=never", "--log-driver=none", "--network=host"),
            *("--security-opt=no-new-privileges", "--cap-drop=ALL", f"--user={os.getuid()}:{os.getgid()}"),
            *(f"--hostname={self.name}", f"--label={_LABEL}={self.name}", *mounts),
            *(word for name in environment or {} for word in ("--env", name)),
            *(f"--entrypoint={argv[0]}", self.image, *argv[1:]),
        ]
