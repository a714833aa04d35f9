# SPDX-License-Identifier: MIT
"""The address of a network card in its state, which was recorded with the first address that QEMU gives.

    52 54 00 12 34 56           as it is: configuration of virtio, PROM of a pcnet (its sum follows)
    52 52 54 54 00 00 ...       each byte twice: memory of an ne2000
    54 52 12 00 56 34           words of an EEPROM; where all 64 of them add up to baba, the last sees to it
    12 00 54 52 .. .. 56 34     the two registers of a receive address
    56 34 12 ff ff 00 54 52     serial number of an Intel card; fe 12 34 56 52 54 00 ff of a vmxnet3

QEMU: hw/net
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORDED = bytes.fromhex("525400123456")
_EEPROM_SIZE, _EEPROM_SUM = 128, 0xBABA
_PROM_SUM, _PROM_END = 12, b"WW"

# What stands between the bytes of some forms is left as it is: None.
_FORMS: tuple[Callable[[bytes], list[int | None]], ...] = (
    lambda a: [*a],
    lambda a: [byte for byte in a for _ in range(2)],
    lambda a: [a[1], a[0], a[3], a[2], a[5], a[4]],
    lambda a: [a[3], a[2], a[1], a[0], None, None, a[5], a[4]],
    lambda a: [a[5], a[4], a[3], 0xFF, 0xFF, a[2], a[1], a[0]],
    lambda a: [0xFE, a[3], a[4], a[5], a[0], a[1], a[2], 0xFF],
)
_PROM_FORM, _EEPROM_FORM = 0, 2


def with_mac(body: bytes, text: str) -> bytes:
    """A recorded body for a card with the address `text`; one that has none stays as it is."""
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        return body
    if mac == RECORDED or len(mac) != len(RECORDED):
        return body
    result = bytearray(body)
    for number, form in enumerate(_FORMS):
        for at in _places(body, form(RECORDED)):
            for offset, byte in enumerate(form(mac)):
                if byte is not None:
                    result[at + offset] = byte
            if number == _EEPROM_FORM:
                _add_up(body, result, at)
            elif number == _PROM_FORM and body[at + _PROM_SUM + 2 :].startswith(_PROM_END):
                place = slice(at + _PROM_SUM, at + _PROM_SUM + 2)
                value = int.from_bytes(body[place], "little") + sum(mac) - sum(RECORDED)
                result[place] = (value & 0xFFFF).to_bytes(2, "little")
    return bytes(result)


def _places(body: bytes, pattern: list[int | None]) -> Iterator[int]:
    begin = bytes(byte for byte in pattern[:4] if byte is not None)
    at = body.find(begin)
    while at >= 0:
        part = body[at : at + len(pattern)]
        if len(part) == len(pattern) and all(want in (None, byte) for want, byte in zip(pattern, part, strict=True)):
            yield at
        at = body.find(begin, at + 1)


def _add_up(body: bytes, result: bytearray, at: int) -> None:
    """Have the last word of an EEPROM that begins there see to its sum, where it has done so."""
    last = slice(at + _EEPROM_SIZE - 2, at + _EEPROM_SIZE)
    if len(body) >= last.stop and _sum(body[at : last.stop]) == _EEPROM_SUM:
        wanted = _EEPROM_SUM - _sum(bytes(result[at : last.start]))
        result[last] = (wanted & 0xFFFF).to_bytes(2, "big")


def _sum(words: bytes) -> int:
    return sum(int.from_bytes(words[at : at + 2], "big") for at in range(0, len(words), 2)) & 0xFFFF
