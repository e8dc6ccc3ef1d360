"""What is sealed opens with its key under its name, whole, and in no other way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import OpsError
from ops.wal import encryption

KEY = encryption.key_from("a password of 43 letters and digits, as made")


@given(st.binary(max_size=5000))
def test_what_was_sealed_is_opened_again(content: bytes) -> None:
    assert encryption.decompressed(encryption.decrypt(encryption.encrypt(content, KEY, "a"), KEY, "a")) == content


def test_an_empty_segment_takes_next_to_no_room_and_shows_nothing() -> None:
    made = encryption.encrypt(bytes(2**24), KEY, "a")
    assert len(made) < 2**24 / 200
    assert b"secret-token" not in encryption.encrypt(b"secret-token" * 100, KEY, "a")


@given(st.integers(0, 10_000))
def test_a_single_bit_that_flipped_is_found(position: int) -> None:
    whole = bytearray(encryption.encrypt(b"some of the log" * 20, KEY, "a"))
    whole[position % len(whole)] ^= 1
    with pytest.raises(OpsError, match="damaged"):
        encryption.decrypt(bytes(whole), KEY, "a")


def test_another_name_another_password_and_a_cut_are_refused() -> None:
    whole = encryption.encrypt(b"some of the log", KEY, "a")
    for content, key, name in (
        (whole, KEY, "b"),
        (whole, encryption.key_from("other"), "a"),
        (whole[:20], KEY, "a"),
        (b"", KEY, "a"),
    ):
        with pytest.raises(OpsError, match="damaged"):
            encryption.decrypt(content, key, name)
