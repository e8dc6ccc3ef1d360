"""An interrupted start of the test environment: nothing may be created after the removal has begun."""

from __future__ import annotations

import threading
import time

import pytest

from ground.environment import joined_pool


def test_an_interrupt_while_a_thread_is_being_started_still_waits_for_that_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    ended = threading.Event()

    def create_a_container() -> None:
        time.sleep(0.2)
        ended.set()

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt), joined_pool() as pool:
        pool.submit(create_a_container)
    assert ended.is_set()
