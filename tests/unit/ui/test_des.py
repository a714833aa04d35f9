# SPDX-License-Identifier: MIT
"""DES, by published vectors, and by the library that does it right where that is installed."""

from __future__ import annotations

import random

import pytest

from fakeqemu.ui import des
from fakeqemu.ui.vnc_auth import vnc_response

#: key, plain, enciphered: from FIPS 46-3's worked example, NIST SP 800-17 and Rivest's test
VECTORS = [
    ("133457799bbcdff1", "0123456789abcdef", "85e813540f0ab405"),
    ("0000000000000000", "0000000000000000", "8ca64de9c1b123a7"),
    ("ffffffffffffffff", "ffffffffffffffff", "7359b2163e4edc58"),
    ("0101010101010101", "8000000000000000", "95f8a5e5dd31d900"),
    ("8001010101010101", "0000000000000000", "95a8d72813daa94d"),
    ("1046913489980131", "0000000000000000", "88d55e54f54c97b4"),
    ("7ca110454a1a6e57", "01a1d6d039776742", "690f5b0d9a26939b"),
]


@pytest.mark.parametrize(("key", "plain", "enciphered"), VECTORS)
def test_vectors(key: str, plain: str, enciphered: str) -> None:
    assert des.encrypt(bytes.fromhex(key), bytes.fromhex(plain)).hex() == enciphered


def test_blocks_are_enciphered_each_by_itself() -> None:
    key, one, other = b"\x13\x34\x57\x79\x9b\xbc\xdf\xf1", bytes(8), b"12345678"
    assert des.encrypt(key, one + other) == des.encrypt(key, one) + des.encrypt(key, other)


def test_parity_does_not_count() -> None:
    assert des.encrypt(bytes(8), b"12345678") == des.encrypt(b"\1" * 8, b"12345678")


def test_each_row_of_a_box_holds_each_digit_once() -> None:
    assert len(des._BOXES) == 8
    for box in des._BOXES:
        assert [sorted(box[at : at + 16]) for at in range(0, 64, 16)] == [sorted("0123456789abcdef")] * 4


def test_the_same_as_a_library() -> None:
    algorithms = pytest.importorskip("cryptography.hazmat.decrepit.ciphers.algorithms")
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    chance = random.Random(1)
    for _ in range(50):
        key, data = chance.randbytes(8), chance.randbytes(16)
        library = Cipher(algorithms.TripleDES(key * 3), modes.ECB()).encryptor()
        assert des.encrypt(key, data) == library.update(data)


def test_a_password_is_the_key_with_its_bits_turned_round() -> None:
    challenge = bytes(range(16))
    assert vnc_response("password", challenge) == des.encrypt(bytes.fromhex("0e86ceceeef64e26"), challenge)
    assert vnc_response("password and more", challenge) == vnc_response("password", challenge)
    assert vnc_response("", challenge) == des.encrypt(bytes(8), challenge)
