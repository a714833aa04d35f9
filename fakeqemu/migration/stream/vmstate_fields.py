# SPDX-License-Identifier: MIT
"""The kinds of fields of a description, by QEMU's names.

    int8 ... uint64      fixed width; `equal`: must be what is there, the text is a hint; `le`: at most what is there
    boolean, cpu_double  one byte; eight bytes
    buffer, unused       raw bytes; zero bytes that nobody keeps
    bitmap               be64 words, the first bits in the first word
    byte_array           be32 length, bytes
    timer                be64 nanoseconds, all ones when it is not armed
    structure            a state of its own description; `version` fixes which version of it travels
    temporary            a description of a scratch copy, whose hooks take it from the state and put it back
    validate             no bytes: what has to be true of the state
    custom               a codec of one's own (QEMU's VMStateInfo)

Each takes the options of `Field`: since, count, count_from, exists, nullable, make, alloc ...

QEMU: migration/vmstate-types.c, include/migration/vmstate.h
"""

from __future__ import annotations

import struct as struct_
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.migration.stream.vmstate import Field, LoadError, Members, load_state, read_member, save_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.migration.stream.vmstate import VMStateDescription

_UINT64_MAX = (1 << 64) - 1
_DOUBLE = struct_.Struct(">d")


def integer(kind: str, name: str, *, equal: str | None = None, le: bool = False, **options: Any) -> Field:
    """An integer of a fixed width: int8 ... uint64.

    With `equal`, one that must be what is there; the text is a hint for the user. With `le`, one from 0 to what is there.
    """
    size = int(kind.removeprefix("u").removeprefix("int")) // 8
    signed = not kind.startswith("u")

    def put(f: QEMUFile, value: Any, _arrays: str) -> None:
        f.put_buffer(int(value).to_bytes(size, "big", signed=signed))

    async def get(f: QEMUFile, old: Any) -> int:
        value = await f.take_uint(size)
        if signed and value >> 8 * size - 1:
            value -= 1 << 8 * size
        if equal is not None and value != old:
            text = f"{_hex(old, size)} != {_hex(value, size)}"
            raise LoadError(text, old_lines=[text, *([equal] if equal else [])])
        if le and not 0 <= value <= old:
            text = f"Invalid value {value} expecting positive value <= {old}"
            raise LoadError(text, old_lines=[text])
        return value

    if equal is not None:
        kind = "int64 equal" if kind == "uint64" else f"{kind} equal"  # QEMU's own name of it
    elif le:
        kind += " le"
    return Field(name, kind, size, put, get, **options)


def _hex(value: int, size: int) -> str:
    return f"{value & (1 << 8 * size) - 1:x}"


int8 = partial(integer, "int8")
int16 = partial(integer, "int16")
int32 = partial(integer, "int32")
int64 = partial(integer, "int64")
uint8 = partial(integer, "uint8")
uint16 = partial(integer, "uint16")
uint32 = partial(integer, "uint32")
uint64 = partial(integer, "uint64")


def boolean(name: str, **options: Any) -> Field:
    def put(f: QEMUFile, value: Any, _arrays: str) -> None:
        f.put_byte(1 if value else 0)

    async def get(f: QEMUFile, _old: Any) -> bool:
        return bool(await f.take_uint(1))

    return Field(name, "bool", 1, put, get, **options)


def cpu_double(name: str, **options: Any) -> Field:
    """A floating point register: 64 bits, the upper half first."""

    def put(f: QEMUFile, value: Any, _arrays: str) -> None:
        f.put_buffer(_DOUBLE.pack(value))

    async def get(f: QEMUFile, _old: Any) -> float:
        value: float = _DOUBLE.unpack((await f.take_uint(8)).to_bytes(8, "big"))[0]
        return value

    return Field(name, "CPU_Double_U", 8, put, get, **options)


def timer(name: str, **options: Any) -> Field:
    """When a timer fires, in nanoseconds of its clock; None when it is not armed."""

    def put(f: QEMUFile, value: Any, _arrays: str) -> None:
        f.put_be64(_UINT64_MAX if value is None else value)

    async def get(f: QEMUFile, _old: Any) -> int | None:
        value = await f.take_uint(8)
        return None if value == _UINT64_MAX else value

    return Field(name, "timer", 8, put, get, **options)


def buffer(name: str, size: int, **options: Any) -> Field:
    """Raw bytes of a fixed length."""

    def put(f: QEMUFile, value: Any, _arrays: str) -> None:
        assert len(value) == size, f"{name} has {len(value)} bytes, not {size}"
        f.put_buffer(value)

    async def get(f: QEMUFile, _old: Any) -> bytes:
        return await f.take(size)

    return Field(name, "buffer", size, put, get, **options)


def buffer_from(name: str, size_from: str, *, factor: int = 1, **options: Any) -> Field:
    """Raw bytes, as many as a member says that comes before them."""

    def put(f: QEMUFile, state: Any, _arrays: str) -> None:
        f.put_buffer(bytes(read_member(state, name))[: int(read_member(state, size_from)) * factor])

    async def get(f: QEMUFile, state: Any) -> None:
        data = await f.take(int(read_member(state, size_from)) * factor)
        if isinstance(state, dict):
            state[name] = data
        else:
            setattr(state, name, data)

    return Field(name, "buffer", 0, put, get, whole_state=True, **options)


def unused(size: int, **options: Any) -> Field:
    """Zero bytes, ignored on load."""

    def put(f: QEMUFile, _value: Any, _arrays: str) -> None:
        f.put_buffer(bytes(size))

    async def get(f: QEMUFile, _old: Any) -> None:
        await f.take(size)

    return Field("unused", "unused_buffer", size, put, get, whole_state=True, **options)


def bitmap(name: str, bits: int, **options: Any) -> Field:
    """A set of bits, kept as an integer: bit n of it is bit n of the bitmap."""
    words = (bits + 63) // 64

    def put(f: QEMUFile, value: Any, _arrays: str) -> None:
        for word in range(words):
            f.put_be64(value >> 64 * word & _UINT64_MAX)

    async def get(f: QEMUFile, _old: Any) -> int:
        value = 0
        for word in range(words):
            value |= await f.take_uint(8) << 64 * word
        return value & (1 << bits) - 1

    return Field(name, "bitmap", 8 * words, put, get, **options)


def byte_array(name: str, **options: Any) -> Field:
    """Bytes that bring their own length."""

    def put(f: QEMUFile, value: Any, _arrays: str) -> None:
        f.put_be32(len(value))
        f.put_buffer(value)

    async def get(f: QEMUFile, _old: Any) -> bytes:
        return await f.take(await f.take_uint(4))

    return Field(name, "GByteArray", 0, put, get, **options)


def structure(name: str, description: VMStateDescription, *, version: int | None = None, **options: Any) -> Field:
    """A nested state of its own description; with `version`, as that version of it has been."""
    wanted = description.version_id if version is None else version

    def put(f: QEMUFile, value: Any, arrays: str) -> Members:
        return list(save_state(f, description, value, wanted, arrays=arrays).items())

    async def get(f: QEMUFile, value: Any) -> None:
        await load_state(f, description, value, wanted)

    kind = "struct" if version is None else "vstruct"
    return Field(name, kind, 0, put, get, struct=description, **options)


def temporary(description: VMStateDescription, make: Callable[[Any], Any], **options: Any) -> Field:
    """What is worked out for the stream: `make(state)` makes a scratch state, whose description's hooks fill it or use it."""

    def put(f: QEMUFile, state: Any, arrays: str) -> Members:
        return list(save_state(f, description, make(state), arrays=arrays).items())

    async def get(f: QEMUFile, state: Any) -> None:
        await load_state(f, description, make(state), description.version_id)

    return Field("tmp", "tmp", 0, put, get, whole_state=True, **options)


def validate(name: str, holds: Callable[[Any, int], bool]) -> Field:
    """No bytes, but a condition: loading fails when the state that has come so far does not meet it."""

    def put(_f: QEMUFile, _value: Any, _arrays: str) -> None:
        raise AssertionError

    async def get(_f: QEMUFile, _old: Any) -> None:
        raise AssertionError

    return Field(name, "", 0, put, get, count=0, whole_state=True, exists=holds, must_exist=True)


def custom(
    name: str, kind: str, size: int, put: Callable[[QEMUFile, Any], None], get: Callable[[QEMUFile], Awaitable[Any]],
    **options: Any,
) -> Field:  # fmt: skip
    """A field with its own codec (QEMU's VMStateInfo). `get` raises StreamError, whose text goes to stderr, or LoadError."""

    def put_value(f: QEMUFile, value: Any, _arrays: str) -> None:
        put(f, value)

    async def get_value(f: QEMUFile, _old: Any) -> Any:
        return await get(f)

    return Field(name, kind, size, put_value, get_value, **options)
