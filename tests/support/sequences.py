"""Random sequences of operations on a site, compared with a model that has only the acknowledged writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule


class Refused(Exception):
    """``ops`` refused the operation and changed nothing."""


class SiteUnderTest(Protocol):
    """A site with users and operators, on the fake host or deployed.

    ``acknowledged`` has the writes that the site confirmed. ``before`` has those that a rollback brings back, or None if no
    rollback is possible. Methods raise Refused; an update that was rolled back is not an error.
    """

    releases: Sequence[str]
    acknowledged: list[str]
    before: list[str] | None

    def version(self) -> str:
        """Return the tag of the Gitea that runs."""

    def content(self) -> Sequence[str]:
        """Return the writes that Gitea shows; raises AssertionError if its files and its database disagree."""

    def write(self, words: str) -> None:
        """Write something and wait for the acknowledgement."""

    def update(self, to: str) -> None:
        """Update Gitea."""

    def update_and_cut_off(self, to: str, number: int, *, power: bool) -> None:
        """Start an update of Gitea, kill it at some point (``power``: the whole host), and resume it."""

    def back_up(self) -> None:
        """Take a backup."""

    def restore(self) -> None:
        """Restore the newest backup."""

    def go_back(self, number: int) -> None:
        """Roll back. With a number from 0 on, kill the rollback at that point and resume it."""

    def can_go_back(self) -> bool:
        """Tell whether a rollback is possible."""

    def assert_well(self) -> None:
        """Assert that the pinned version serves everyone and no operation is in progress."""


_RELEASE = st.runner().flatmap(lambda sequences: st.sampled_from(sequences.site_under_test.releases))


class Sequences(RuleBasedStateMachine):
    """A site, its users and its operators. Whatever they do, the site serves all acknowledged writes."""

    site_under_test: SiteUnderTest

    @rule()
    def someone_writes(self) -> None:
        self.site_under_test.write(f"w{len(self.site_under_test.acknowledged)}")

    @rule(to=_RELEASE)
    def is_updated(self, to: str) -> None:
        before, runs = list(self.site_under_test.acknowledged), self.site_under_test.version()
        try:
            self.site_under_test.update(to)
        except Refused:
            return
        if runs != to:
            self.site_under_test.before = before if self.site_under_test.version() == to else None

    @rule(to=_RELEASE, number=st.integers(0, 80), power=st.booleans())
    def is_updated_and_cut_off(self, to: str, number: int, power: bool) -> None:
        before, runs = list(self.site_under_test.acknowledged), self.site_under_test.version()
        try:
            self.site_under_test.update_and_cut_off(to, number, power=power)
        except Refused:
            return
        if self.site_under_test.version() != runs:
            self.site_under_test.before = before
        elif not self.site_under_test.can_go_back():
            self.site_under_test.before = None

    @rule()
    def is_backed_up(self) -> None:
        self.site_under_test.back_up()

    @rule()
    def is_restored(self) -> None:
        self.site_under_test.back_up()
        saved = list(self.site_under_test.acknowledged)
        self.someone_writes()
        self.site_under_test.restore()
        self.site_under_test.acknowledged[:] = saved

    @rule(number=st.integers(-1, 30))
    def goes_back(self, number: int) -> None:
        runs = self.site_under_test.version()
        try:
            self.site_under_test.go_back(number)
        except Refused:
            assert self.site_under_test.before is None
            return
        if self.site_under_test.version() != runs:
            assert self.site_under_test.before is not None
            self.site_under_test.acknowledged[:] = self.site_under_test.before
            self.site_under_test.before = None

    @invariant()
    def serves_what_it_has_acknowledged(self) -> None:
        self.site_under_test.assert_well()
        assert sorted(self.site_under_test.content()) == sorted(self.site_under_test.acknowledged)
