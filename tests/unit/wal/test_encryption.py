"""Encrypted content can be decrypted only whole, with its key and under its name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import OpsError
from ops.wal import encryption

KEY = encryption.key_from("a password of 43 letters and digits, as made")


@given(st.binary(max_size=5000))
def test_encrypted_content_is_decrypted_to_the_same_content(content: bytes) -> None:
    assert encryption.decompressed(encryption.decrypt(encryption.encrypt(content, KEY, "a"), KEY, "a")) == content


def test_an_empty_segment_is_small_and_encrypted_content_is_not_readable() -> None:
    made = encryption.encrypt(bytes(2**24), KEY, "a")
    assert len(made) < 2**24 / 200
    assert b"secret-token" not in encryption.encrypt(b"secret-token" * 100, KEY, "a")


@given(st.integers(0, 10_000))
def test_a_flipped_bit_is_detected(position: int) -> None:
    whole = bytearray(encryption.encrypt(b"some WAL" * 20, KEY, "a"))
    whole[position % len(whole)] ^= 1
    with pytest.raises(OpsError, match="damaged"):
        encryption.decrypt(bytes(whole), KEY, "a")


def test_another_name_another_password_and_truncated_content_are_refused() -> None:
    whole = encryption.encrypt(b"some WAL", KEY, "a")
    for content, key, name in (
        (whole, KEY, "b"),
        (whole, encryption.key_from("other"), "a"),
        (whole[:20], KEY, "a"),
        (b"", KEY, "a"),
    ):
        with pytest.raises(OpsError, match="damaged"):
            encryption.decrypt(content, key, name)
