# SPDX-License-Identifier: MIT
"""DES, which VNC's passwords still need: enciphering single blocks, nothing else.

It protects nothing today, and is slow here; both are fine for one challenge of 16 bytes a connection.

    block ── initial permutation ── 16 rounds: L, R = R, L ^ f(R, round key) ── swap ── inverse permutation

FIPS 46-3
"""

from __future__ import annotations

BLOCK_BYTES = 8

# Tables as the standard prints them: the number of the bit, from 1 at the left, that comes to each place.
_INITIAL = [n - 8 * row for n in (58, 60, 62, 64, 57, 59, 61, 63) for row in range(8)]
_INVERSE = [n - column for column in range(8) for n in (40, 8, 48, 16, 56, 24, 64, 32)]
_EXPANSION = [(4 * group + place - 1) % 32 + 1 for group in range(8) for place in range(6)]
_ROUND = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25,
]  # fmt: skip
_CHOICE_1 = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
    63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
]  # fmt: skip
_CHOICE_2 = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
    41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
]  # fmt: skip
_SHIFTS = (1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1)
#: each box: four rows of sixteen hexadecimal digits
_BOXES = (
    "e4d12fb83a6c5907" "0f74e2d1a6cb9538" "41e8d62bfc973a50" "fc8249175b3ea06d",
    "f18e6b34972dc05a" "3d47f28ec01a69b5" "0e7ba4d158c6932f" "d8a13f42b67c05e9",
    "a09e63f51dc7b428" "d709346a285ecbf1" "d6498f30b12c5ae7" "1ad069874fe3b52c",
    "7de3069a1285bc4f" "d8b56f03472c1ae9" "a690cb7df13e5284" "3f06a1d8945bc72e",
    "2c417ab6853fd0e9" "eb2c47d150fa3986" "421bad78f9c5630e" "b8c71e2d6f09a453",
    "c1af92680d34e75b" "af427c9561de0b38" "9ef528c3704a1db6" "432c95fabe17608d",
    "4b2ef08d3c975a61" "d0b7491ae35c2f86" "14bdc37eaf680592" "6bd814a7950fe23c",
    "d2846fb1a93e50c7" "1fd8a374c56b0e92" "7b419ce206adf358" "21e74a8dfc90356b",
)  # fmt: skip


def encrypt(key: bytes, data: bytes) -> bytes:
    """`data`, whole blocks, each enciphered by itself (ECB) with a key of 8 bytes, whose parity bits do not count."""
    assert len(key) == BLOCK_BYTES
    assert len(data) % BLOCK_BYTES == 0
    round_keys = _schedule(int.from_bytes(key, "big"))
    return b"".join(
        _block(int.from_bytes(data[at : at + BLOCK_BYTES], "big"), round_keys).to_bytes(BLOCK_BYTES, "big")
        for at in range(0, len(data), BLOCK_BYTES)
    )


def _permute(value: int, bits: int, table: list[int]) -> int:
    result = 0
    for place in table:
        result = result << 1 | value >> (bits - place) & 1
    return result


def _schedule(key: int) -> list[int]:
    """The 16 round keys."""
    chosen = _permute(key, 64, _CHOICE_1)
    left, right = chosen >> 28, chosen & 0xFFFFFFF
    keys = []
    for shift in _SHIFTS:
        left, right = ((half << shift | half >> (28 - shift)) & 0xFFFFFFF for half in (left, right))
        keys.append(_permute(left << 28 | right, 56, _CHOICE_2))
    return keys


def _block(block: int, round_keys: list[int]) -> int:
    mixed = _permute(block, 64, _INITIAL)
    left, right = mixed >> 32, mixed & 0xFFFFFFFF
    for round_key in round_keys:
        left, right = right, left ^ _mix(right, round_key)
    return _permute(right << 32 | left, 64, _INVERSE)


def _mix(half: int, round_key: int) -> int:
    """The function f: four bits out of six through each box."""
    wide = _permute(half, 32, _EXPANSION) ^ round_key
    narrow = 0
    for number, box in enumerate(_BOXES):
        six = wide >> (42 - 6 * number) & 0x3F
        row, column = six >> 4 & 2 | six & 1, six >> 1 & 0xF
        narrow = narrow << 4 | int(box[16 * row + column], 16)
    return _permute(narrow, 32, _ROUND)
