"""Random sequences of what happens to a site, against a model that knows only what was acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule


class Refused(Exception):
    """``ops`` refuses to do it, and nothing was touched."""


class Place(Protocol):
    """A site that has people and operators: in memory, or deployed.

    ``acknowledged`` is what people were told is written; ``before`` what a rollback brings back, or None when there is none.
    Verbs raise Refused; an update that was taken back is no error.
    """

    releases: Sequence[str]
    acknowledged: list[str]
    before: list[str] | None

    def version(self) -> str:
        """Return the tag of the Gitea that runs."""

    def content(self) -> Sequence[str]:
        """Return what Gitea shows; raises AssertionError where its files and its database do not agree."""

    def write(self, words: str) -> None:
        """Write something and have it acknowledged."""

    def update(self, to: str) -> None:
        """Update Gitea."""

    def update_and_cut_off(self, to: str, number: int, *, power: bool) -> None:
        """Begin an update of Gitea, kill it somewhere, the host with it where power fails, and have it resumed."""

    def back_up(self) -> None:
        """Take a backup."""

    def restore(self) -> None:
        """Restore the newest backup."""

    def go_back(self, number: int) -> None:
        """Roll back; with a number from 0 on it is killed somewhere, and resumed."""

    def can_go_back(self) -> bool:
        """Tell whether something is kept to go back to."""

    def assert_well(self) -> None:
        """Assert that everyone is served by what is pinned, and nothing is under way."""


_RELEASE = st.runner().flatmap(lambda machine: st.sampled_from(machine.place.releases))


class Sequences(RuleBasedStateMachine):
    """A site, its people and its operators. Whatever they do, it serves what it has acknowledged."""

    place: Place

    @rule()
    def someone_writes(self) -> None:
        self.place.write(f"w{len(self.place.acknowledged)}")

    @rule(to=_RELEASE)
    def is_updated(self, to: str) -> None:
        before, runs = list(self.place.acknowledged), self.place.version()
        try:
            self.place.update(to)
        except Refused:
            return
        if runs != to:
            self.place.before = before if self.place.version() == to else None

    @rule(to=_RELEASE, number=st.integers(0, 80), power=st.booleans())
    def is_updated_and_cut_off(self, to: str, number: int, power: bool) -> None:
        before, runs = list(self.place.acknowledged), self.place.version()
        try:
            self.place.update_and_cut_off(to, number, power=power)
        except Refused:
            return
        if self.place.version() != runs:
            self.place.before = before
        elif not self.place.can_go_back():
            self.place.before = None

    @rule()
    def is_backed_up(self) -> None:
        self.place.back_up()

    @rule()
    def is_restored(self) -> None:
        self.place.back_up()
        saved = list(self.place.acknowledged)
        self.someone_writes()
        self.place.restore()
        self.place.acknowledged[:] = saved

    @rule(number=st.integers(-1, 30))
    def goes_back(self, number: int) -> None:
        runs = self.place.version()
        try:
            self.place.go_back(number)
        except Refused:
            assert self.place.before is None
            return
        if self.place.version() != runs:
            assert self.place.before is not None
            self.place.acknowledged[:] = self.place.before
            self.place.before = None

    @invariant()
    def serves_what_it_has_acknowledged(self) -> None:
        self.place.assert_well()
        assert sorted(self.place.content()) == sorted(self.place.acknowledged)
