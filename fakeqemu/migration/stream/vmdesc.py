# SPDX-License-Identifier: MIT
"""The JSON text at the end of a stream: what its FULL sections were made of.

    {"configuration": {...}, "page_size": 4096, "devices": [
      {"name": idstr, "instance_id": n, "vmsd_name": ..., "version": v,
       "fields": [{"name", "type", "size", "array_len" | "index", "struct"}], "subsections": [...]}, ...]}

`size` is bytes on the wire of one element; `array_len` n stands for n of them; a `struct` has fields and subsections of
its own. A program that does not know a device can cut its section with this, and so do we: a stock device consumes its
bytes as its description says.

QEMU: migration/vmstate.c (vmsd_desc_*), scripts/analyze-migration.py
"""

from __future__ import annotations

import errno
import re

from fakeqemu.migration.stream import vmdesc_virtio
from fakeqemu.migration.stream.qemu_file import EndOfStream, QEMUFile, c_string
from fakeqemu.migration.stream.section import QEMU_VM_SECTION_FOOTER
from fakeqemu.migration.stream.vmstate import LoadError, next_subsection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: what makes equal names of fields different ones
_NUMBER = re.compile(r"\[\d+\]$")
#: names that many versions of a description have again, or that are numbered by themselves
_ALWAYS_NUMBERED = ("unused", "config")
_NEVER_NUMBERED = "_q_"
#: neither a field is larger than this, nor has a section more pieces; the largest of QEMU's has some thousand
_MAX_SIZE, _MAX_EFFORT = 1 << 26, 1 << 20
#: states inside of each other
_MAX_DEPTH = 32
#: kinds of fields that have members of a description beside their own
_INLINE = ("tmp", "vstruct")
#: stands behind a body, where the end of the stream would not: whether a subsection comes is asked there
_BEHIND = bytes((QEMU_VM_SECTION_FOOTER,))
#: kinds that are the same on both sides end like this, or are not larger than here; of those, what a property of the device sets
_EQUAL, _LIMITED = " equal", " le"
_SETTINGS = ("log_max",)


def dumps(value: Any) -> bytes:
    """JSON as QEMU writes it here: one line, `", "` and `": "` between the parts."""
    import json

    return json.dumps(value, separators=(", ", ": "), ensure_ascii=False).encode()


def loads(text: bytes) -> Any:
    """The description as a sender wrote it; raises ValueError. Of names that come again in an object the last one counts."""
    import json

    return json.loads(text)


def described_size(desc: dict[str, Any]) -> int:
    """Bytes of a section as described, its subsections with their headers included."""
    size = sum(_field_size(field) for field in desc.get("fields", []))
    for sub in desc.get("subsections", []):
        size += 1 + 1 + len(sub["vmsd_name"].encode()) + 4 + described_size(sub)
    return size


def _field_size(field: dict[str, Any]) -> int:
    # QEMU's own size of a struct counts its subsections too.
    size: int = field["size"] * field.get("array_len", 1)
    return size


def is_sound(desc: object) -> bool:
    """Whether this, out of a stream, describes a section: names are texts, sizes are sizes, and none takes us for a ride."""
    return 0 <= _effort(desc) <= _MAX_EFFORT


def _effort(desc: object, depth: int = 0) -> int:
    """How many pieces such a section has; -1 for what is no description."""
    if depth > _MAX_DEPTH or not isinstance(desc, dict) or not isinstance(desc.get("vmsd_name", ""), str):
        return -1
    fields, subsections = desc.get("fields", []), desc.get("subsections", [])
    if not isinstance(fields, list) or not isinstance(subsections, list):
        return -1
    efforts = [_field_effort(field, depth) for field in fields]
    efforts += [_effort(sub, depth + 1) if isinstance(sub, dict) and "vmsd_name" in sub else -1 for sub in subsections]
    return -1 if -1 in efforts else sum(efforts)


def _field_effort(field: object, depth: int) -> int:
    if (
        not isinstance(field, dict)
        or not isinstance(field.get("name"), str)
        or not isinstance(field.get("type", ""), str)
    ):
        return -1
    size, count = field.get("size"), field.get("array_len", 1)
    if not isinstance(size, int) or not isinstance(count, int) or not 0 <= size * count <= _MAX_SIZE or count < 0:
        return -1
    struct = field if field.get("type") in _INLINE else field.get("struct")
    inside = 1 if struct is None else _effort(struct, depth + 1)
    return -1 if inside < 0 else (1 + inside) * count


#: which of a state's fields that are the same on both sides: name of the state, name of the field, how many came before
Fixed = tuple[str, str, int]


class _Parts:
    """What was read of a section."""

    __slots__ = ("_counts", "_expected", "pieces", "size")

    def __init__(self, expected: dict[Fixed, tuple[int, bytes]] | None = None) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._expected = expected or {}

    @property
    def front(self) -> int:
        return self._expected.get(_VIRTIO_FRONT, (-1, b""))[0]

    def add(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)

    def add_fixed(self, state: str, field: str, kind: str, data: bytes) -> None:
        """Raises LoadError for what is not as it is here."""
        number = self._counts.get((state, field), 0)
        self._counts[state, field] = number + 1
        key = state, field, number
        _, here = self._expected.get(key, (0, data))
        if kind.endswith(_LIMITED):
            value, limit = (int.from_bytes(one, "big", signed=True) for one in (data, here))
            is_right, text = 0 <= value <= limit, f"Invalid value {value} expecting positive value <= {limit}"
        else:
            is_right, text = here == data, f"{int.from_bytes(here, 'big'):x} != {int.from_bytes(data, 'big'):x}"
        if not is_right:
            raise LoadError(text, old_lines=[text])
        self.add(data)


def fixed_fields(desc: dict[str, Any], data: bytes) -> dict[Fixed, tuple[int, bytes]]:
    """Those fields of a body that are the same on both sides, and where they stand."""
    fixed: dict[Fixed, tuple[int, bytes]] = {}
    counts: dict[tuple[str, str], int] = {}
    for state, field, at, size in _fixed_places(desc, 0) if _has_fixed(desc) else ():
        number = counts.get((state, field), 0)
        counts[state, field] = number + 1
        fixed[state, field, number] = at, data[at : at + size]
    for field in desc.get("fields", ()):
        if field.get("type") == vmdesc_virtio.VIRTIO:
            fixed[_VIRTIO_FRONT] = vmdesc_virtio.front_size(data), b""
    return fixed


def _fixed_places(desc: dict[str, Any], at: int) -> Iterator[tuple[str, str, int, int]]:
    """State, name, place and size of each such field. Nothing is read: sizes are told, of structs with all that they have."""
    for field in desc.get("fields", ()):
        struct, count = field.get("struct"), field.get("array_len", 1)
        if _is_fixed(field):
            yield desc.get("vmsd_name", ""), field["name"], at, field["size"]
        elif struct is not None and _has_fixed(struct):
            for number in range(count):
                yield from _fixed_places(struct, at + number * field["size"])
        at += _field_size(field)
    for sub in desc.get("subsections", ()):
        at += 1 + 1 + len(sub["vmsd_name"].encode()) + 4
        yield from _fixed_places(sub, at)
        at += described_size(sub)


def _has_fixed(desc: dict[str, Any]) -> bool:
    fields = desc.get("fields", ())
    return (
        any(_is_fixed(field) for field in fields)
        or any(_has_fixed(sub) for sub in desc.get("subsections", ()))
        or any(_has_fixed(field["struct"]) for field in fields if "struct" in field)
    )


#: where the first subsection of a virtio device stands, if the whole has the same size
_VIRTIO_FRONT = (vmdesc_virtio.VIRTIO, "", 0)


def _is_fixed(field: dict[str, Any]) -> bool:
    kind: str = field.get("type", "")
    return kind.endswith((_EQUAL, _LIMITED)) and field["name"] not in _SETTINGS and "array_len" not in field


async def consume(f: QEMUFile, desc: dict[str, Any], expected: dict[Fixed, tuple[int, bytes]] | None = None) -> bytes:
    """Read the body of a section as its description says; returns the bytes. `expected`: `fixed_fields` of this machine's.

    Raises LoadError, in the words of the state that the description is of, when bytes are missing, for a subsection that it
    does not know, and for a field that is not as expected.
    """
    parts = _Parts(expected)
    await _consume_state(f, desc, parts)
    return b"".join(parts.pieces)


async def _consume_state(f: QEMUFile, desc: dict[str, Any], parts: _Parts) -> None:
    name = desc.get("vmsd_name", "")
    for field in desc.get("fields", []):
        try:
            await _consume_field(f, field, parts, name)
        except EndOfStream as err:
            chain = f"Failed to load {name} state: stream error: -{err.errno}"
            raise LoadError(chain, err.errno, [f"Failed to load {name}:{_own_name(field['name'], desc)}"]) from None
        except LoadError as err:
            raise err.outer("", f"Failed to load {name}:{_own_name(field['name'], desc)}") from None
    if name:
        await _consume_subsections(f, desc, parts)


async def _consume_field(f: QEMUFile, field: dict[str, Any], parts: _Parts, state: str) -> None:
    # The description of a scratch copy stands in the field itself.
    kind = field.get("type")
    struct = field if kind in _INLINE else field.get("struct")
    count = field.get("array_len", 1)
    if struct is None and (kind == vmdesc_virtio.VIRTIO or kind in vmdesc_virtio.ELEMENTS):
        parts.add(await _consume_element(f, field, parts.front))
        return
    if struct is None:
        data = await f.get_buffer(field["size"] * count)
        if _is_fixed(field):
            parts.add_fixed(state, field["name"], field["type"], data)
        else:
            parts.add(data)
        return
    for _ in range(count):
        await _consume_state(f, struct, parts)
        if f.end is not None:  # met while looking for a subsection
            raise f.end


async def _consume_element(f: QEMUFile, field: dict[str, Any], front: int) -> bytes:
    """A field that has a reader of its own, which prints what it misses and has no words for those above. `front`: size of what
    stands before the subsections, -1 if nobody knows.
    """
    kind: str = field["type"]
    chain = f"Failed to load element of type {kind} for {field['name']}"
    try:
        if kind == vmdesc_virtio.VIRTIO:
            return await _consume_virtio(f, field["size"], front)
        parts = _Parts()
        await _consume_state(f, vmdesc_virtio.ELEMENTS[kind], parts)
        return b"".join(parts.pieces)
    except EndOfStream as err:
        raise LoadError(chain, err.errno) from None
    except LoadError as err:
        raise LoadError(chain, err.errno, err.old_lines, [*err.lines, err.desc]) from None


async def _consume_virtio(f: QEMUFile, size: int, front: int) -> bytes:
    ended = f.end
    data = await f.peek(size)
    if ended is None:
        f.end = None  # only looked at
    front = vmdesc_virtio.front_size(data) if front < 0 else front
    if not 0 <= front <= len(data):
        return await f.get_buffer(size)
    part = QEMUFile.over(data[front:] + _BEHIND if len(data) == size else data[front:])
    parts = _Parts()
    try:
        await _consume_state(part, vmdesc_virtio.DESC, parts)
    except LoadError:
        if part.end is None or len(data) < size:
            raise
        return await f.get_buffer(size)  # something else: what stands behind it will be missed
    return await f.get_buffer(front + parts.size)


def _own_name(name: str, desc: dict[str, Any]) -> str:
    """The name of a field without the number that it has in a description when others have the same.

    A name may end in a number by itself (`env.cr[2]`): then there is no row of them that begins with 0 or, the first one not
    being there, is a lone 1.
    """
    found = _NUMBER.search(name)
    base = name[: found.start()] if found is not None else name
    if found is None or base in _ALWAYS_NUMBERED or base.startswith(_NEVER_NUMBERED):
        return base if base in _ALWAYS_NUMBERED else name
    names = {one["name"] for one in desc["fields"]}
    numbers = [n for n in range(len(names) + 1) if f"{base}[{n}]" in names]
    return base if numbers == [1] or (len(numbers) > 1 and numbers == list(range(len(numbers)))) else name


async def _consume_subsections(f: QEMUFile, desc: dict[str, Any], parts: _Parts) -> None:
    name = desc["vmsd_name"]
    while (data := await next_subsection(f, name)) is not None:
        idstr = c_string(data)
        sub = next((s for s in desc.get("subsections", []) if s["vmsd_name"] == idstr), None)
        if sub is None:
            raise LoadError(f"VM subsection '{idstr}' in '{name}' does not exist", errno.ENOENT)
        head = await f.take(2 + len(data) + 4)
        parts.add(head)
        try:
            _check_version(sub, head[2 + len(data) :])
            await _consume_state(f, sub, parts)
        except LoadError as err:
            raise err.outer(f"Loading VM subsection '{idstr}' in '{name}' failed: {err.desc}") from None


def _check_version(sub: dict[str, Any], number: bytes) -> None:
    """Fields are described for one version: a later one has others. Whether an earlier one may come nobody says."""
    version_id = int.from_bytes(number.ljust(4, b"\0"), "big") & 0xFF  # QEMU keeps a byte of it
    name, known = sub["vmsd_name"], sub.get("version")
    if isinstance(known, int) and version_id > known:
        text = f"{name}: incoming version_id {version_id} is too new for local version_id {known}"
        raise LoadError(text, old_lines=[text])


def subsection_heads(desc: dict[str, Any], *, possible: bool = False) -> list[bytes]:
    """What the subsections of a description begin with in a stream, on all its levels; with `possible` also those of fields
    that are not described, which may be there.
    """
    heads = []
    for field in desc.get("fields", ()):
        struct = field if field.get("type") in _INLINE else field.get("struct")
        if struct is not None:
            heads += subsection_heads(struct, possible=possible)
        elif possible and field.get("type") == vmdesc_virtio.VIRTIO:
            heads += [head for sub in vmdesc_virtio.SUBSECTIONS for head in subsection_heads({"subsections": [sub]})]
    for sub in desc.get("subsections", ()):
        name = sub["vmsd_name"].encode()
        version = int(sub.get("version", 0)) & 0xFFFFFFFF
        heads.append(b"\x05" + bytes((len(name) & 0xFF,)) + name + version.to_bytes(4, "big"))
        heads += subsection_heads(sub, possible=possible)
    return heads
