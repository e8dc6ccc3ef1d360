"""The door to other programs."""

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

Tell = Callable[[str], None]
_LINES_KEPT = 400
INTERRUPTS_TOLERATED = 2
_STOP_SECONDS = 10.0
POLITE_SECONDS = 5
_OUT_OF_THE_CALLBACK_SECONDS = 0.05
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit code and the last lines it wrote."""

    code: int
    output: str


class Terminated(KeyboardInterrupt):
    """A request to stop (SIGTERM, SIGHUP) that unwinds as an interrupt does. ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def signals_unwind() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into Terminated for the length of the block, so that what was begun is undone.

    What is raised inside a callback of the interpreter's own, such as a weak reference's, goes no further than that
    (sys.unraisablehook): an interrupt that ended there, SIGINT's too, is sent again.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise Terminated(number)

    def send_again(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)
            return
        # Not from here: it would end here once more.
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
    """Hold back SIGINT, SIGTERM and SIGHUP for the length of the block; the first that came is delivered at its end.

    What the block is given names those that came: it is to end soon when there is one. What is ignored stays ignored.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    heard = [each for each in _INTERRUPTS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def interrupt_code(interrupt: KeyboardInterrupt) -> int:
    """Return the exit code that tells of an interrupt: 128 and the signal's number."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


class BackgroundProcess:
    """A program that runs while this one does something else."""

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
        """Tell whether the program is there to be run."""
        return shutil.which(program) is not None

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
        lines: list[str] = []

        def hear(line: str) -> None:
            lines.append(line)
            if tell:
                tell(line.rstrip())

        process = self._started(argv, directory, environment)
        _until_end(process, lambda: _read(process, hear))
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

    def run_watched(
        self, argv: Sequence[str], *, environment: Mapping[str, str], hear: Callable[[str], bool]
    ) -> tuple[Finished, str]:
        """Run a program and return how it ended with all that it printed, and the last lines of its errors.

        Each line of its errors goes to ``hear`` as it comes; when that says no, the program is ended, at first politely.
        """
        errors: list[str] = []
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            process = self._started(argv, None, environment, stdout=printed, stderr=subprocess.PIPE)

            def attend() -> None:
                assert process.stderr is not None
                for line in process.stderr:
                    errors.append(line)
                    if not hear(line.rstrip()):
                        _end(process)
                process.wait()

            with process:
                _until_end(process, attend)
            printed.seek(0)
            return Finished(process.returncode, printed.read()), "".join(errors[-_LINES_KEPT:])

    def pipe(
        self, source: Sequence[str], sink: Sequence[str], *, environment: Mapping[str, str], tell: Tell
    ) -> Finished:
        """Run two programs, the second reading what the first writes, and return how they ended: the first that failed.

        Each line the second writes goes to ``tell``; the errors of the first are in the output when it failed, too.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
            try:
                first = subprocess.Popen(source, env=os.environ | environment, stdout=subprocess.PIPE, stderr=errors)
            except FileNotFoundError as error:
                raise _missing(source[0]) from error
            second = self._started(sink, None, None, stdin=first.stdout)
            assert first.stdout is not None
            first.stdout.close()
            lines: list[str] = []

            def hear(line: str) -> None:
                lines.append(line)
                tell(line.rstrip())

            _until_end(second, lambda: _read(second, hear))
            first.wait()
            errors.seek(0)
            said = errors.read()
            if second.returncode:
                # A first one that a signal has ended found no one who still read.
                return Finished(
                    second.returncode, "".join(lines[-_LINES_KEPT:]) + (said if first.returncode > 0 else "")
                )
            return Finished(first.returncode, said)

    @contextmanager
    def in_background(self, argv: Sequence[str]) -> Iterator[BackgroundProcess]:
        """Run a program for the length of the block. At its end the program is asked to stop, and killed if it does not."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            try:
                process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True
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
        """Run a program on this process's own terminal and return its exit code.

        An interrupt is raised again once the program has ended.
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
                env=os.environ | (environment or {}),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                text=True,
            )
        except FileNotFoundError as error:
            raise _missing(argv[0]) from error


def _read(process: subprocess.Popen[str], hear: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            hear(line)
    process.wait()


def _until_end(process: subprocess.Popen[Any], attend: Callable[[], object]) -> None:
    """Attend to a program until it has ended, and only then give way to an interrupt.

    The terminal has interrupted the program, too, and it undoes what it did; Terraform, for one, writes its state. Who
    interrupts a third time wants out at once.
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
