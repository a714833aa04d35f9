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

from fakeqemu.error import StreamError
from fakeqemu.migration.stream.section import QEMU_VM_SUBSECTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.migration.stream.qemu_file import QEMUFile


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


async def consume(f: QEMUFile, desc: dict[str, Any]) -> bytes:
    """Read the body of a section as its description says; returns the bytes.

    Raises StreamError for a subsection that the description does not know, EndOfStream when bytes are missing.
    """
    parts: list[bytes] = []
    await _consume_fields(f, desc, parts)
    return b"".join(parts)


async def _consume_fields(f: QEMUFile, desc: dict[str, Any], parts: list[bytes]) -> None:
    for field in desc.get("fields", []):
        count = field.get("array_len", 1)
        struct = field.get("struct")
        if struct is None:
            parts.append(await f.get_buffer(field["size"] * count))
        else:
            for _ in range(count):
                await _consume_fields(f, struct, parts)
    if "vmsd_name" in desc:
        await _consume_subsections(f, desc, parts)


async def _consume_subsections(f: QEMUFile, desc: dict[str, Any], parts: list[bytes]) -> None:
    name = desc["vmsd_name"]
    while True:
        head = await f.peek(2)
        if len(head) < 2 or head[0] != QEMU_VM_SUBSECTION:
            return
        header = await f.peek(2 + head[1] + 4)
        idstr = header[2:-4].decode("utf-8", "backslashreplace")
        if len(header) < 2 + head[1] + 4 or not idstr.startswith(name + "/"):
            return  # it belongs to an outer level
        sub = next((s for s in desc.get("subsections", []) if s["vmsd_name"] == idstr), None)
        if sub is None:
            raise StreamError(f"VM subsection '{idstr}' in '{name}' does not exist")
        parts.append(await f.get_buffer(len(header)))
        await _consume_fields(f, sub, parts)
