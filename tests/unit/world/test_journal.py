"""The journal tells what was recorded, wherever it was cut off and whatever was written over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.world.files import Files
from ops.world.journal import Journal

RECORDS = [{"step": "stop", "service": "gitea"}, {"step": "picture"}, {"step": "pin", "to": "ä\n\u2028\r x"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "journal"


def filled(path: Path, records: list[dict[str, Any]] = RECORDS) -> bytes:
    for record in records:
        Journal(path).append(record)
    return path.read_bytes()


def test_what_was_recorded_is_read_in_its_order(path: Path) -> None:
    assert Journal(path).records() == ()
    filled(path)
    assert list(Journal(path).records()) == RECORDS
    Journal(path).close()
    Journal(path).close()
    assert Journal(path).records() == ()


def test_cut_off_at_any_byte_it_has_every_record_that_was_whole_by_then(path: Path) -> None:
    whole = filled(path)
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        there = sum(end <= length for end in ends)
        assert list(Journal(path).records()) == RECORDS[:there], length
        Journal(path).append({"step": "later"})
        assert list(Journal(path).records()) == [*RECORDS[:there], {"step": "later"}], length


def test_no_byte_can_change_without_its_record_and_those_after_it_counting_for_nothing(path: Path) -> None:
    whole = filled(path)
    for index in range(len(whole)):
        for other in (whole[index] ^ 1, ord("\n")):
            if other == whole[index]:
                continue
            path.write_bytes(whole[:index] + bytes([other]) + whole[index + 1 :])
            before = whole[:index].count(b"\n")
            assert list(Journal(path).records()) == RECORDS[:before], (index, other)


# Each record waits for the disk.
@settings(max_examples=4)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.booleans(), max_size=3),
        max_size=4,
    )
)
def test_any_record_survives(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    for record in records:
        Journal(path).append(record)
    assert list(Journal(path).records()) == records


def test_a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("before")
    path.chmod(0o640)
    Files().write(path, b"after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o640)
    assert list(tmp_path.iterdir()) == [path]
    Files().write(tmp_path / "new", json.dumps({}).encode())
    assert (tmp_path / "new").read_text() == "{}"
