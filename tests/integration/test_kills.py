"""Wherever an update is killed, the next run finishes or undoes it: every action of every kind, on the fake host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_host import Busy, FakeHost, Killed, assert_one_version, run_to_end

KINDS = [
    ("gitea", "28.1.0"),
    ("gitea", "28.1.1-crash"),
    ("gitea", "28.1.1-sour"),
    ("gitea", "28.1.1-midmigration"),
    ("gitea", "28.1.1-broken"),
    ("postgres", "18.7"),
    ("postgres", "19.0"),
    ("nginx", "1.30.5"),
]


@pytest.mark.parametrize("power", ["the process alone", "the whole host"])
@pytest.mark.parametrize(("service", "to"), KINDS, ids=[f"{service}-{to}" for service, to in KINDS])
def test_wherever_an_update_is_killed_the_next_run_finishes_or_undoes_it(
    in_memory: Path, service: str, to: str, power: str
) -> None:
    whole = Busy.on(FakeHost(directory=in_memory / "whole"))
    run_to_end(lambda: whole.update(service, to))
    assert_one_version(whole, service, to)
    for number in range(len(whole.actions)):
        host = Busy.on(FakeHost(directory=in_memory / str(number), dies_before=number))
        with pytest.raises(Killed):
            host.update(service, to)
        host.dies_before = -1
        if power == "the whole host":
            host.reboot()
        run_to_end(host.resume)
        if power == "the whole host":
            host.run(["docker", "compose", "up"])
        assert_one_version(host, service, to)


RESUMED = [("gitea", "28.1.0"), ("gitea", "28.1.1-broken"), ("gitea", "28.1.1-forgets"), ("postgres", "19.0")]


@pytest.mark.parametrize(("service", "to"), RESUMED)
def test_resuming_and_undoing_an_update_may_be_killed_anywhere(in_memory: Path, service: str, to: str) -> None:
    whole = FakeHost(directory=in_memory / "whole")
    run_to_end(lambda: whole.update(service, to))
    began = whole.actions.index("record begin")
    for first in range(began, len(whole.actions), 3):
        second = 0
        while True:
            host = cut_off(in_memory / f"{first}-{second}", service, to, first)
            host.dies_before = len(host.actions) + second
            try:
                run_to_end(host.resume)
            except Killed:
                host.dies_before = -1
                run_to_end(host.resume)
            else:
                break
            assert_one_version(host, service, to)
            assert all(host.comments())
            second += 2


def cut_off(directory: Path, service: str, to: str, number: int) -> FakeHost:
    host = FakeHost(directory=directory, dies_before=number)
    host.write("before")
    with pytest.raises(Killed):
        host.update(service, to)
    host.dies_before = -1
    return host


def test_a_rollback_may_be_killed_anywhere(in_memory: Path) -> None:
    def updated(directory: Path) -> FakeHost:
        host = FakeHost(directory=directory)
        host.write("before")
        host.update(to="28.1.0")
        host.write("after")
        host.actions.clear()
        return host

    whole = updated(in_memory / "whole")
    whole.rollback()
    for number in range(len(whole.actions)):
        host = updated(in_memory / str(number))
        host.dies_before = number
        with pytest.raises(Killed):
            host.rollback()
        host.dies_before = -1
        host.resume()
        assert host.serves()
        expected = {"28.0.1": ["before"], "28.1.0": ["before", "after"]}[host.version()]
        assert host.content() == expected, whole.actions[number]
        assert not any(host.journals.values())
