"""What `./noxw -s up` says of itself: its parts, about how long each takes, and how far it is."""

from __future__ import annotations

import pytest

from ground.outline import PARTS, Outline
from tests.support.fakes import FakeClock


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def outline(lines: list[str], clock: FakeClock) -> Outline:
    return Outline(lines.append, clock.monotonic)


def test_the_start_lists_every_part_with_its_time_and_the_sum(outline: Outline, lines: list[str]) -> None:
    outline.begin()
    minutes = round(sum(part.seconds for part in PARTS) / 60)
    assert (
        lines[0] == f"up deploys a local site in about {minutes} minutes on two idle cores, sooner where parts exist:"
    )
    assert [line.split()[0] for line in lines[1:]] == [f"{number}." for number in range(1, len(PARTS) + 1)]
    for part, line in zip(PARTS, lines[1:], strict=True):
        assert part.content in line
        assert "about" in line


def test_the_whole_takes_at_most_ten_minutes() -> None:
    assert sum(part.seconds for part in PARTS) <= 600


def test_each_part_says_its_number_at_its_start_and_its_time_at_its_end(
    outline: Outline, lines: list[str], clock: FakeClock
) -> None:
    with outline.part("images"):
        clock.sleep(125)
    number = [part.name for part in PARTS].index("images") + 1
    assert lines[0].startswith(f"[{number}/{len(PARTS)}] images: ")
    assert lines[1] == f"[{number}/{len(PARTS)}] images: took 2 min 5 s"


def test_the_time_of_a_part_that_fails_is_not_told(outline: Outline, lines: list[str]) -> None:
    with pytest.raises(ValueError, match="no"), outline.part("images"):
        raise ValueError("no")
    assert not [line for line in lines if "took" in line]


def test_the_end_says_how_long_all_parts_took(outline: Outline, lines: list[str], clock: FakeClock) -> None:
    outline.begin()
    clock.sleep(59.6)
    outline.end()
    assert lines[-1] == "up took 1 min 0 s"


def test_an_outline_for_another_command_is_silent(lines: list[str]) -> None:
    quiet = Outline.silent()
    quiet.begin()
    with quiet.part("images"):
        pass
    quiet.end()
    assert lines == []
