"""Random sequences of what happens to a site, on a host in memory; on a deployed one: tests/disaster/site/test_random_sequences.py."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from ops import errors
from ops.backup import take
from ops.restore import plan, restore
from tests.support.fake_host import Killed, Machine, ended
from tests.support.sequences import Refused, Sequences


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except errors.Refused as refused:
        raise Refused(refused.message) from refused


class InMemory:
    """A host in memory, with deeds that it may die before."""

    releases: Sequence[str] = (
        "28.0.2",
        "28.1.0",
        "28.1.1-crash",
        "28.1.1-sour",
        "28.1.1-midmigration",
        "28.1.1-broken",
    )

    def __init__(self, directory: Path) -> None:
        self.machine = Machine(directory=directory)
        self.acknowledged = self.machine.acknowledged
        self.before: list[str] | None = None

    def version(self) -> str:
        return self.machine.version()

    def content(self) -> list[str]:
        return self.machine.content()

    def write(self, words: str) -> None:
        assert self.machine.write(words)

    def update(self, to: str) -> None:
        with _refused():
            ended(lambda: self.machine.update(to=to))

    def update_and_cut_off(self, to: str, number: int, *, power: bool) -> None:
        self.machine.dies_before = len(self.machine.deeds) + number
        try:
            self.update(to)
        except Killed:
            self.machine.dies_before = -1
            if power:
                self.machine.reboot()
            ended(self.machine.resume)
            if power:
                self.machine.run(["docker", "compose", "up"])
        finally:
            self.machine.dies_before = -1

    def back_up(self) -> None:
        self.machine.clock.sleep(60)
        take.of_this_moment(self.machine.site(), self.machine, self.machine.paths)  # type: ignore[arg-type]

    def restore(self) -> None:
        restore.restore(
            self.machine.site(),
            self.machine,  # type: ignore[arg-type]
            request=plan.RestoreRequest(),
            confirm=lambda *_: None,
            paths=self.machine.paths,
        )

    def go_back(self, number: int) -> None:
        self.machine.dies_before = len(self.machine.deeds) + number if number >= 0 else -1
        try:
            with _refused():
                self.machine.rollback()
        except Killed:
            self.machine.dies_before = -1
            self.machine.resume()
        finally:
            self.machine.dies_before = -1

    def can_go_back(self) -> bool:
        return (self.machine.paths.data / ".update/kept.json").exists()

    def assert_well(self) -> None:
        assert self.machine.serves()
        assert self.machine.stack["gitea"].image == self.machine.pinned_in_environment()
        assert not any(self.machine.journals.values())


class SequencesInMemory(Sequences):
    """The same, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="machine-"))
        self.place: InMemory = InMemory(self.directory / "host")

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @rule(days=st.sampled_from([1, 8]))
    def time_passes(self, days: int) -> None:
        self.place.machine.clock.sleep(days * 86400.0)
        self.place.machine.resume()
        if not self.place.can_go_back():
            self.place.before = None


TestSite = SequencesInMemory.TestCase
TestSite.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
