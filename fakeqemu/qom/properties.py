# SPDX-License-Identifier: MIT
"""What a QOM property takes: values from JSON, values from text, and QEMU's words when they are wrong.

A property has a type name. The names that QEMU uses for scalars mean a range; the name of an enumeration means a list of
words; `link<T>` takes the path of an object; anything else is a structure, judged by the object that has it.

Two kinds of input reach a setter, and refuse with different words. *Typed* input (`qom-set`, `object-add`, JSON on the
command line) wants a JSON value of the right kind; *text* input (`-object a=b`, `-machine a=b`) is read from a string.

QEMU: qapi/qobject-input-visitor.c, qapi/qapi-visit-core.c, util/cutils.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi import cutils
from fakeqemu.qapi.cutils import NumberError, parse_int64, parse_uint64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Property type -> (bits, signed). `int` is QAPI's int64.
INTEGERS: dict[str, tuple[int, bool]] = {
    "int": (64, True),
    "int8": (8, True),
    "int16": (16, True),
    "int32": (32, True),
    "int64": (64, True),
    "uint8": (8, False),
    "uint16": (16, False),
    "uint32": (32, False),
    "uint64": (64, False),
    "size": (64, False),
}
#: other spellings of the same in some properties
ALIASES = {"uint64_t": "uint64", "uint32_t": "uint32", "uint16_t": "uint16", "uint8_t": "uint8", "str": "string"}

#: Enumerations that properties of ours take -> their words in QAPI's order.
ENUMS: dict[str, tuple[str, ...]] = {
    "OnOffAuto": ("auto", "on", "off"),
    "OnOffSplit": ("on", "off", "split"),
    "HostMemPolicy": ("default", "preferred", "bind", "interleave"),
    "QCryptoSecretFormat": ("raw", "base64"),
    "QCryptoTLSCredsEndpoint": ("client", "server"),
    "QAuthZListPolicy": ("deny", "allow"),
    "PCSouthBridgeOption": ("PIIX3", "piix4-isa"),
    "MonitorQMPCloseAction": ("none", "delete"),
}

I64_MIN, I64_MAX, U64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


def wrong_type(name: str, expected: str) -> QemuError:
    return QemuError(f"Invalid parameter type for '{name}', expected: {expected}")


def bad_enum(name: str, value: str) -> QemuError:
    return QemuError(f"Parameter '{name}' does not accept value '{value}'")


def scalar_type(type_name: str) -> str | None:
    """The scalar that a property type is: "bool", "string", a key of INTEGERS; None for all others."""
    type_name = ALIASES.get(type_name, type_name)
    return type_name if type_name in INTEGERS or type_name in ("bool", "string") else None


def default_of(type_name: str) -> Any:
    """What a property of this type reads when nothing else is known; None when the type has no such value."""
    if type_name in ENUMS:
        return ENUMS[type_name][0]
    scalar = scalar_type(type_name)
    if scalar == "bool":
        return False
    if scalar == "string" or type_name.startswith("link<"):
        return ""
    return 0 if scalar is not None else None


# --- typed input ------------------------------------------------------------------------------------------


def check_typed(type_name: str, name: str, value: Any) -> Any:
    """The value a setter stores for typed input; raises QemuError. Types that are no scalar or enumeration pass as they are."""
    words = ENUMS.get(type_name)
    if words is not None:
        return check_enum(words, name, value)
    scalar = scalar_type(type_name)
    if scalar is None:
        return value
    if scalar == "bool":
        if not isinstance(value, bool):
            raise wrong_type(name, "boolean")
        return value
    if scalar == "string":
        if not isinstance(value, str):
            raise wrong_type(name, "string")
        return value
    return check_integer(scalar, name, value)


def check_enum(words: tuple[str, ...], name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(name, "string")
    if value not in words:
        raise bad_enum(name, value)
    return value


def check_integer(scalar: str, name: str, value: Any) -> int:
    """An integer of INTEGERS. Negative numbers reach unsigned 64-bit members by two's complement, as in QEMU."""
    bits, signed = INTEGERS[scalar]
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if signed:
        if not is_int or not I64_MIN <= value <= I64_MAX:
            raise wrong_type(name, "integer")
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise QemuError(f"Parameter '{name}' expects int{bits}_t")
        return int(value)
    if not is_int or not I64_MIN <= value <= U64_MAX:
        raise QemuError(f"Parameter '{name}' expects uint64")
    value &= U64_MAX
    if value >> bits:
        raise QemuError(f"Parameter '{name}' expects uint{bits}_t")
    return int(value)


# --- text input -------------------------------------------------------------------------------------------


def parse_text(type_name: str, name: str, text: str) -> Any:
    """The value a setter stores for text input; raises QemuError.

    The words are those of QEMU's string visitor, as for -global. Where it reads dotted keys (-machine, -object, -device)
    it says `expects integer`: who parses those says so.
    """
    words = ENUMS.get(type_name)
    if words is not None:
        return check_enum(words, name, text)
    scalar = scalar_type(type_name)
    if scalar is None or scalar == "string":
        return text
    if scalar == "bool":
        return parse_bool(name, text)
    if scalar == "size":
        return parse_size(name, text)
    try:
        number = parse_int64(text) if INTEGERS[scalar][1] else parse_uint64(text)
    except NumberError:
        raise QemuError(f"Parameter '{name}' expects {'int64' if INTEGERS[scalar][1] else 'uint64'}") from None
    return check_integer(scalar, name, number)


def parse_bool(name: str, text: str) -> bool:
    value = cutils.parse_bool(text)
    if value is None:
        raise QemuError(f"Parameter '{name}' expects 'on' or 'off'")
    return value


def parse_size(name: str, text: str) -> int:
    """A size with an optional suffix (512, 64K, 1.5G, 0x100); raises QemuError."""
    try:
        return cutils.parse_size(text)
    except NumberError:
        raise QemuError(f"Parameter '{name}' expects size") from None
