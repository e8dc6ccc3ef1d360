"""Runs the unit tests of a module on its mutants, one process after the other, each forked from a warm one.

A mutant exists only in memory: the forked process imports it instead of the module, and the work tree is not changed.
The parent imports the third-party packages of the tests before the first mutant, so that a mutant costs little more
than its tests. A mutant that needs ten times the processor time of the unchanged module counts as killed. The limit is
processor time, not wall-clock time, because load on the machine must not kill mutants.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import math
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

_OWN = frozenset({"__main__", "conftest", "ground", "noxfile", "ops", "tests"})
_OPTIONS = (
    *(
        "-x",
        "-q",
        "--no-header",
        "--no-summary",
        "--tb=no",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:logging",
    ),
    *("--capture=sys", "--disable-socket", "--allow-unix-socket"),
)
# The limit for a mutant that sleeps and uses no processor time.
_CLOCK_SECONDS = 300


@dataclass(frozen=True)
class Module:
    """A module to mutate: its file, its unit tests, and the top-level names that are not mutated."""

    source: str
    tests: tuple[str, ...]
    skip: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its import name."""
        return self.source.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


class Suite:
    """The unit tests of one module; ``folder`` holds their temporary files.

    Raises ValueError when they fail on the unchanged module.
    """

    def __init__(self, module: Module, root: Path, folder: Path) -> None:
        self._module, self._root, self._folder = module, root, folder
        self._output = folder / "output"
        self._limit = 0
        before = os.times()
        if code := _wait(self._fork(None)):
            words = self._output.read_text(encoding="utf-8")
            raise ValueError(f"{module.source}: its tests fail without a mutant ({code})\n{words}")
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        self._limit = math.ceil(10 * seconds) + 5
        for name in (folder / "modules").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def kill(self, code: str) -> bool:
        """Tell whether a test fails or exceeds the time limit when ``code`` is the module's source."""
        return _wait(self._fork(code)) != 0

    def _fork(self, code: str | None) -> int:
        child = os.fork()
        if not child:
            try:
                ended = self._run(code)
            except BaseException:
                traceback.print_exc()
                ended = 70
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended)
        return child

    def _run(self, code: str | None) -> int:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.alarm(_CLOCK_SECONDS)
        output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if self._limit:
            resource.setrlimit(resource.RLIMIT_CPU, (self._limit, self._limit))
        if code is not None:
            sys.meta_path.insert(0, _Mutated(self._module.name, self._root / self._module.source, code))
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(self._folder / "hypothesis")
        os.chdir(self._root)
        options = (*_OPTIONS, f"--basetemp={self._folder / 'tests'}", f"--rootdir={self._root}")
        ended = int(pytest.main([*options, *self._module.tests], plugins=[_Deterministic()]))
        if code is None:
            foreign = [name for name in sys.modules if name.partition(".")[0] not in _OWN]
            (self._folder / "modules").write_text("\n".join(foreign), encoding="utf-8")
        return ended


class _Mutated(importlib.machinery.SourceFileLoader):
    """Imports the mutated module from memory."""

    def __init__(self, name: str, path: Path, code: str) -> None:
        super().__init__(name, str(path))
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._code, self.path, "exec", dont_inherit=True)


class _Deterministic:
    """Makes Hypothesis deterministic: the same examples in each run, no database, no shrinking of a failure."""

    @pytest.hookimpl(trylast=True)
    def pytest_collectstart(self) -> None:
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutation", deadline=None, derandomize=True, database=None, phases=phases)
        hypothesis.settings.load_profile("mutation")


def _wait(child: int) -> int:
    """The exit code of a child, or minus the signal that ended it. An interrupt also ends the child."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
