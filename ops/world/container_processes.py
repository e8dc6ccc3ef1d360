"""The door to programs that this machine has not: each runs in a container of an image, which is removed when it ends."""

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
    """Runs programs of an image as this process's own user, on this machine's network, with folders of this machine.

    ``name`` is the containers' host name, by which a program that keeps locks knows its own again. Values of ``environment``
    go to the container by their names alone: none of them stands in the process list.
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
        """Whatever ``Processes`` starts and attends to, it starts by this."""
        return super()._started(self._around(argv, environment), directory, environment, *rest, **named)

    def is_running(self) -> bool:
        """Tell whether a container of that name is at work: its own run may have been killed, and it not with it."""
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
