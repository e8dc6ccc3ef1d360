"""Signals that arrive while they are held back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ops.world.process import Terminated, signals_held, signals_unwind

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the signal handlers after each test; SIGINT has Python's own handler in a test."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_held_signal_is_delivered_at_the_end_of_the_block() -> None:
    heard: list[int] = []

    def work() -> None:
        with signals_held() as received:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.raise_signal(number)
            heard.extend(received)

    with signals_unwind(), pytest.raises(Terminated) as stopped:
        work()
    assert heard == [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    assert stopped.value.number == signal.SIGTERM


def test_a_held_signal_is_delivered_when_the_block_fails() -> None:
    @signals_held()
    def fail() -> None:
        signal.raise_signal(signal.SIGINT)
        raise OSError("the block's own")

    with pytest.raises(KeyboardInterrupt) as stopped:
        fail()
    assert isinstance(stopped.value.__context__, OSError)


@pytest.mark.parametrize("failing", [False, True])
def test_the_previous_handlers_are_restored(failing: bool) -> None:
    with signals_unwind():
        before = [signal.getsignal(number) for number in NUMBERS]
        try:
            with signals_held():
                assert [signal.getsignal(number) for number in NUMBERS] != before
                if failing:
                    raise OSError
        except OSError:
            pass
        assert [signal.getsignal(number) for number in NUMBERS] == before


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_held() as received:
        signal.raise_signal(signal.SIGHUP)
    assert received == []
