"""The door to other programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import Unavailable

Tell = Callable[[str], None]
_LINES_KEPT = 400


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit code and the last lines it wrote."""

    code: int
    output: str


class Processes:
    """Runs programs found on PATH."""

    def run(
        self,
        argv: Sequence[str],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        tell: Tell | None = None,
    ) -> Finished:
        """Run a program to its end and return how it ended; each line it writes goes to ``tell`` as it comes.

        ``environment`` is added to this process's own. Standard output and error arrive as one stream.
        Raises Unavailable when the program is not installed.
        """
        with self._started(argv, directory, environment) as process:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line)
                if tell:
                    tell(line.rstrip())
        return Finished(process.returncode, "".join(lines[-_LINES_KEPT:]))

    def output(self, argv: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> Finished:
        """Run a program and return its standard output alone, whole; its errors go to this process's own stderr."""
        try:
            done = subprocess.run(
                argv, cwd=directory, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=False
            )
        except FileNotFoundError as error:
            raise _missing(argv[0]) from error
        return Finished(done.returncode, done.stdout)

    def passthrough(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Run a program on this process's own terminal and return its exit code.

        An interrupt reaches the program by the terminal's process group; this waits for it to clean up after itself.
        """
        try:
            process = subprocess.Popen(argv, env=os.environ | (environment or {}))
        except FileNotFoundError as error:
            raise _missing(argv[0]) from error
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue

    def _started(
        self, argv: Sequence[str], directory: Path | None, environment: Mapping[str, str] | None
    ) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                argv,
                cwd=directory,
                env=os.environ | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except FileNotFoundError as error:
            raise _missing(argv[0]) from error


def _missing(program: str) -> Unavailable:
    return Unavailable(f"{program} is not installed", f"install {program} and run the command again")
