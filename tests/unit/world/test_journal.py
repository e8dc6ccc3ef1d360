"""The journal returns its complete records, even when it is truncated or partly overwritten."""

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


def test_records_are_read_in_order(path: Path) -> None:
    assert Journal(path).records() == ()
    filled(path)
    assert list(Journal(path).records()) == RECORDS
    Journal(path).close()
    Journal(path).close()
    assert Journal(path).records() == ()


def test_a_journal_truncated_at_any_byte_keeps_every_complete_record(path: Path) -> None:
    content = filled(path)
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        complete = sum(end <= length for end in ends)
        assert list(Journal(path).records()) == RECORDS[:complete], length
        Journal(path).append({"step": "later"})
        assert list(Journal(path).records()) == [*RECORDS[:complete], {"step": "later"}], length


def test_a_changed_byte_invalidates_its_record_and_all_later_ones(path: Path) -> None:
    content = filled(path)
    for index in range(len(content)):
        for other in (content[index] ^ 1, ord("\n")):
            if other == content[index]:
                continue
            path.write_bytes(content[:index] + bytes([other]) + content[index + 1 :])
            before = content[:index].count(b"\n")
            assert list(Journal(path).records()) == RECORDS[:before], (index, other)


# Each record waits for the disk.
@settings(max_examples=4)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.booleans(), max_size=3),
        max_size=4,
    )
)
def test_any_records_are_read_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    for record in records:
        Journal(path).append(record)
    assert list(Journal(path).records()) == records


def test_replacing_a_file_keeps_its_mode_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("before")
    path.chmod(0o640)
    Files().write(path, b"after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o640)
    assert list(tmp_path.iterdir()) == [path]
    Files().write(tmp_path / "new", json.dumps({}).encode())
    assert (tmp_path / "new").read_text() == "{}"
