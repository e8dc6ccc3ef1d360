"""Wherever an update is killed it succeeds or was never there: every deed of every kind, on a host in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_host import Busy, Killed, Machine, ended, one_end

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
    whole = Busy.on(Machine(directory=in_memory / "whole"))
    ended(lambda: whole.update(service, to))
    one_end(whole, service, to)
    for number in range(len(whole.deeds)):
        machine = Busy.on(Machine(directory=in_memory / str(number), dies_before=number))
        with pytest.raises(Killed):
            machine.update(service, to)
        machine.dies_before = -1
        if power == "the whole host":
            machine.reboot()
        ended(machine.resume)
        if power == "the whole host":
            machine.run(["docker", "compose", "up"])
        one_end(machine, service, to)


@pytest.mark.parametrize(("service", "to"), [("gitea", "28.1.0"), ("gitea", "28.1.1-broken"), ("postgres", "19.0")])
def test_going_on_and_going_back_may_be_killed_anywhere_too(in_memory: Path, service: str, to: str) -> None:
    whole = Machine(directory=in_memory / "whole")
    ended(lambda: whole.update(service, to))
    began = whole.deeds.index("record begin")
    for first in range(began, len(whole.deeds), 3):
        second = 0
        while True:
            machine = cut_off(in_memory / f"{first}-{second}", service, to, first)
            machine.dies_before = len(machine.deeds) + second
            try:
                ended(machine.resume)
            except Killed:
                machine.dies_before = -1
                ended(machine.resume)
            else:
                break
            one_end(machine, service, to)
            second += 2


def cut_off(directory: Path, service: str, to: str, number: int) -> Machine:
    machine = Machine(directory=directory, dies_before=number)
    machine.write("before")
    with pytest.raises(Killed):
        machine.update(service, to)
    machine.dies_before = -1
    return machine


def test_going_back_because_one_wants_to_may_be_killed_anywhere(in_memory: Path) -> None:
    def updated(directory: Path) -> Machine:
        machine = Machine(directory=directory)
        machine.write("before")
        machine.update(to="28.1.0")
        machine.write("after")
        machine.deeds.clear()
        return machine

    whole = updated(in_memory / "whole")
    whole.rollback()
    for number in range(len(whole.deeds)):
        machine = updated(in_memory / str(number))
        machine.dies_before = number
        with pytest.raises(Killed):
            machine.rollback()
        machine.dies_before = -1
        machine.resume()
        assert machine.serves()
        expected = {"28.0.1": ["before"], "28.1.0": ["before", "after"]}[machine.version()]
        assert machine.content() == expected, whole.deeds[number]
        assert not any(machine.journals.values())
