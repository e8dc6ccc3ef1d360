"""Random sequences of what happens to a site, against a model that knows only what was acknowledged."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ops import backup, restore
from ops.errors import Refused
from tests.machine import Killed, Machine, ended

GOOD = ("28.0.2", "28.1.0")
BAD = ("28.1.1-crash", "28.1.1-sour", "28.1.1-midmigration", "28.1.1-broken")


class Site(RuleBasedStateMachine):
    """A site, its people and its operators. Whatever they do, it serves what it has acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="machine-"))
        self.backups: list[list[str]] = []
        self.before: list[str] | None = None
        self.number = 0

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @initialize()
    def begins(self) -> None:
        self.machine = Machine(directory=self.directory / "host")

    @rule()
    def someone_writes(self) -> None:
        self.number += 1
        assert self.machine.write(f"w{self.number}")

    @rule(to=st.sampled_from(GOOD + BAD))
    def is_updated(self, to: str) -> None:
        before, runs = list(self.machine.acknowledged), self.machine.version()
        try:
            ended(lambda: self.machine.update(to=to))
        except Refused:
            return
        if runs != to:
            self.before = before if self.machine.version() == to else None

    @rule(to=st.sampled_from(GOOD + BAD), number=st.integers(0, 80), power=st.booleans())
    def is_updated_and_cut_off(self, to: str, number: int, power: bool) -> None:
        before, runs, begun = list(self.machine.acknowledged), self.machine.version(), len(self.machine.deeds)
        self.machine.dies_before = begun + number
        try:
            ended(lambda: self.machine.update(to=to))
        except Refused:
            self.machine.dies_before = -1
            return
        except Killed:
            self.machine.dies_before = -1
            if power:
                self.machine.reboot()
            ended(self.machine.resume)
            if power:
                self.machine.run(["docker", "compose", "up"])
        self.machine.dies_before = -1
        kept = (self.machine.places.data / ".update/kept.json").exists()
        if self.machine.version() != runs:
            self.before = before
        elif not kept:
            self.before = None

    @rule()
    def is_backed_up(self) -> None:
        self.machine.clock.sleep(60)
        backup.of_this_moment(self.machine.site(), self.machine, self.machine.places)  # type: ignore[arg-type]
        self.backups.append(list(self.machine.acknowledged))

    @precondition(lambda self: self.backups)
    @rule()
    def is_restored(self) -> None:
        self.machine.clock.sleep(60)
        backup.of_this_moment(self.machine.site(), self.machine, self.machine.places)  # type: ignore[arg-type]
        saved = list(self.machine.acknowledged)
        self.someone_writes()
        wish = restore.Wish()
        restore.restore(
            self.machine.site(),
            self.machine,  # type: ignore[arg-type]
            wish=wish,
            agree=lambda *_: None,
            places=self.machine.places,
        )
        self.machine.acknowledged[:] = saved

    @rule(number=st.integers(-1, 30))
    def goes_back(self, number: int) -> None:
        runs = self.machine.version()
        self.machine.dies_before = len(self.machine.deeds) + number if number >= 0 else -1
        try:
            self.machine.rollback()
        except Refused:
            assert self.before is None
        except Killed:
            self.machine.dies_before = -1
            self.machine.resume()
        self.machine.dies_before = -1
        if self.machine.version() != runs:
            assert self.before is not None
            self.machine.acknowledged[:] = self.before
            self.before = None

    @rule(days=st.sampled_from([1, 8]))
    def time_passes(self, days: int) -> None:
        self.machine.clock.sleep(days * 86400.0)
        self.machine.resume()
        if not (self.machine.places.data / ".update/kept.json").exists():
            self.before = None

    @invariant()
    def serves_what_it_has_acknowledged(self) -> None:
        if not hasattr(self, "machine"):
            return
        assert self.machine.serves()
        assert self.machine.content() == self.machine.acknowledged
        assert self.machine.stack["gitea"].image == self.machine.pinned_in_environment()
        assert not any(self.machine.journals.values())


TestSite = Site.TestCase
TestSite.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
