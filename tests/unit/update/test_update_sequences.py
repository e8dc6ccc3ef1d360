"""Random sequences of operations on a site on the fake host; on a deployed one: tests/disaster/site/test_random_sequences.py."""

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
from tests.support.fake_host import FakeHost, Killed, run_to_end
from tests.support.sequences import Refused, Sequences


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except errors.Refused as refused:
        raise Refused(refused.message) from refused


class InMemory:
    """A site on the fake host, which can be killed before any of its actions."""

    releases: Sequence[str] = (
        "28.0.2",
        "28.1.0",
        "28.1.1-crash",
        "28.1.1-sour",
        "28.1.1-midmigration",
        "28.1.1-broken",
    )

    def __init__(self, directory: Path) -> None:
        self.host = FakeHost(directory=directory)
        self.acknowledged = self.host.acknowledged
        self.before: list[str] | None = None

    def version(self) -> str:
        return self.host.version()

    def content(self) -> list[str]:
        return self.host.content()

    def write(self, words: str) -> None:
        assert self.host.write(words)

    def update(self, to: str) -> None:
        with _refused():
            run_to_end(lambda: self.host.update(to=to))

    def update_and_cut_off(self, to: str, number: int, *, power: bool) -> None:
        self.host.dies_before = len(self.host.actions) + number
        try:
            self.update(to)
        except Killed:
            self.host.dies_before = -1
            if power:
                self.host.reboot()
            run_to_end(self.host.resume)
            if power:
                self.host.run(["docker", "compose", "up"])
        finally:
            self.host.dies_before = -1

    def back_up(self) -> None:
        self.host.clock.sleep(60)
        take.of_this_moment(self.host.site(), self.host, self.host.paths)  # type: ignore[arg-type]

    def restore(self) -> None:
        restore.restore(
            self.host.site(),
            self.host,  # type: ignore[arg-type]
            request=plan.RestoreRequest(),
            confirm=lambda *_: None,
            paths=self.host.paths,
        )

    def go_back(self, number: int) -> None:
        self.host.dies_before = len(self.host.actions) + number if number >= 0 else -1
        try:
            with _refused():
                self.host.rollback()
        except Killed:
            self.host.dies_before = -1
            self.host.resume()
        finally:
            self.host.dies_before = -1

    def can_go_back(self) -> bool:
        return (self.host.paths.data / ".update/kept.json").exists()

    def assert_well(self) -> None:
        assert self.host.serves()
        assert self.host.stack["gitea"].image == self.host.pinned_in_environment()
        assert not any(self.host.journals.values())


class SequencesInMemory(Sequences):
    """The same sequences, in which time passes as well."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="host-"))
        self.site_under_test: InMemory = InMemory(self.directory / "host")

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @rule(days=st.sampled_from([1, 8]))
    def time_passes(self, days: int) -> None:
        self.site_under_test.host.clock.sleep(days * 86400.0)
        self.site_under_test.host.resume()
        if not self.site_under_test.can_go_back():
            self.site_under_test.before = None


TestSite = SequencesInMemory.TestCase
TestSite.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
