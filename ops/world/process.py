"""The adapter for other programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from ops.errors import Unavailable
from ops.world.environment import environment_for

Tell = Callable[[str], None]
_LINES_KEPT = 400
INTERRUPTS_TOLERATED = 2
_STOP_SECONDS = 10.0
POLITE_SECONDS = 5
_OUT_OF_THE_CALLBACK_SECONDS = 0.05
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit code and the last lines that it printed."""

    code: int
    output: str


class Terminated(KeyboardInterrupt):
    """A request to stop (SIGTERM, SIGHUP), which unwinds the stack like an interrupt. ``number`` is the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def signals_unwind() -> Iterator[None]:
    """Raise Terminated for SIGTERM and SIGHUP during the block, so that started work is undone.

    An exception inside a callback of the interpreter, such as a weak reference's, is not passed on
    (sys.unraisablehook). An interrupt that is lost there, SIGINT included, is sent again.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise Terminated(number)

    def send_again(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)
            return
        # From a timer: a signal sent here would be lost here again.
        number = interrupt_code(lost.exc_value) - 128
        threading.Timer(_OUT_OF_THE_CALLBACK_SECONDS, os.kill, (os.getpid(), number)).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    hook, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[list[int]]:
    """Hold back SIGINT, SIGTERM and SIGHUP during the block; the first one is delivered at its end.

    Yields the list of signals received so far; the block should end soon after the first. Ignored signals stay ignored.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    handled = [each for each in _INTERRUPTS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in handled}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def interrupt_code(interrupt: KeyboardInterrupt) -> int:
    """Return the exit code for an interrupt: 128 plus the signal's number."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


class BackgroundProcess:
    """A program that runs in the background."""

    def __init__(self, process: subprocess.Popen[str], output: IO[str]) -> None:
        self._process, self._output = process, output

    def ended(self) -> Finished | None:
        """Return how the program ended, or None while it runs."""
        if self._process.poll() is None:
            return None
        self._output.seek(0)
        return Finished(self._process.returncode, "".join(self._output.readlines()[-_LINES_KEPT:]))


class Processes:
    """Runs programs found on PATH."""

    def installed(self, program: str) -> bool:
        """Return whether the program is on PATH."""
        return shutil.which(program) is not None

    def run(
        self,
        argv: Sequence[str],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        tell: Tell | None = None,
        complete: bool = False,
    ) -> Finished:
        """Run a program to its end and return how it ended; each line of its output goes to ``tell`` at once.

        ``environment`` is added to the variables that ops/world/environment.py keeps. Standard output and standard error are one stream,
        of which the last lines are returned, or with ``complete`` every line.
        Raises Unavailable when the program is not installed.
        """
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            if tell:
                tell(line.rstrip())

        process = self._started(argv, directory, environment)
        _until_end(process, lambda: _read(process, on_line))
        return Finished(process.returncode, "".join(lines if complete else lines[-_LINES_KEPT:]))

    def output(self, argv: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> Finished:
        """Run a program and return its complete standard output; its standard error goes to this process's stderr."""
        try:
            done = subprocess.run(
                argv,
                cwd=directory,
                env=environment_for(environment),
                stdout=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except FileNotFoundError as error:
            raise _missing(argv[0]) from error
        return Finished(done.returncode, done.stdout)

    def run_watched(
        self, argv: Sequence[str], *, environment: Mapping[str, str], on_line: Callable[[str], bool]
    ) -> tuple[Finished, str]:
        """Run a program and return how it ended with its complete standard output, and the last lines of its standard error.

        Each line of standard error goes to ``on_line`` at once. When ``on_line`` returns False, the program is terminated, then killed.
        """
        errors: list[str] = []
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
            process = self._started(argv, None, environment, stdout=printed, stderr=subprocess.PIPE)

            def attend() -> None:
                assert process.stderr is not None
                for line in process.stderr:
                    errors.append(line)
                    if not on_line(line.rstrip()):
                        _end(process)
                process.wait()

            with process:
                _until_end(process, attend)
            printed.seek(0)
            return Finished(process.returncode, printed.read()), "".join(errors[-_LINES_KEPT:])

    def pipe(
        self, source: Sequence[str], sink: Sequence[str], *, environment: Mapping[str, str], tell: Tell
    ) -> Finished:
        """Run two programs, the first's output piped into the second, and return how they ended: the first one that failed.

        Each line of the second's output goes to ``tell``; if both fail, the output includes the first's standard error.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            try:
                first = subprocess.Popen(
                    source, env=environment_for(environment), stdout=subprocess.PIPE, stderr=errors
                )
            except FileNotFoundError as error:
                raise _missing(source[0]) from error
            second = self._started(sink, None, None, stdin=first.stdout)
            assert first.stdout is not None
            first.stdout.close()
            lines: list[str] = []

            def on_line(line: str) -> None:
                lines.append(line)
                tell(line.rstrip())

            _until_end(second, lambda: _read(second, on_line))
            first.wait()
            errors.seek(0)
            failure = errors.read()
            if second.returncode:
                # A signal ended the first program only because the second no longer read: its errors do not matter.
                return Finished(
                    second.returncode, "".join(lines[-_LINES_KEPT:]) + (failure if first.returncode > 0 else "")
                )
            return Finished(first.returncode, failure)

    @contextmanager
    def in_background(self, argv: Sequence[str]) -> Iterator[BackgroundProcess]:
        """Run a program during the block. At the end it gets SIGTERM, and SIGKILL if it does not stop."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            try:
                process = subprocess.Popen(
                    argv,
                    env=environment_for(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            except FileNotFoundError as error:
                raise _missing(argv[0]) from error
            try:
                yield BackgroundProcess(process, output)
            finally:
                process.terminate()
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def passthrough(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Run a program of the suite on this process's own terminal and return its exit code.

        The program gets the whole environment: it is the suite's own Python, which filters the environment itself.
        An interrupt is raised after the program has ended.
        """
        try:
            process = subprocess.Popen(argv, env=os.environ | (environment or {}))
        except FileNotFoundError as error:
            raise _missing(argv[0]) from error
        _until_end(process, process.wait)
        return process.returncode

    def _started(
        self,
        argv: Sequence[str],
        directory: Path | None,
        environment: Mapping[str, str] | None,
        stdin: IO[bytes] | int | None = subprocess.DEVNULL,
        stdout: IO[str] | int = subprocess.PIPE,
        stderr: int = subprocess.STDOUT,
    ) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                argv,
                cwd=directory,
                env=environment_for(environment),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                encoding="utf-8",
                errors="replace",
            )
        except FileNotFoundError as error:
            raise _missing(argv[0]) from error


def _read(process: subprocess.Popen[str], on_line: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            on_line(line)
    process.wait()


def _until_end(process: subprocess.Popen[Any], attend: Callable[[], object]) -> None:
    """Call ``attend`` until the program has ended, and raise an interrupt only then.

    The terminal interrupts the program too, and the program needs time to clean up; Terraform, for example, writes its
    state. A third interrupt is raised at once.
    """
    interrupts: list[KeyboardInterrupt] = []
    while process.returncode is None:
        try:
            attend()
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)
            if len(interrupts) > INTERRUPTS_TOLERATED:
                raise
            attend = process.wait
    if interrupts:
        raise interrupts[0]


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(POLITE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _missing(program: str) -> Unavailable:
    return Unavailable(f"{program} is not installed", f"install {program} and run the command again")
