# SPDX-License-Identifier: MIT
"""Python values to JSON text, byte for byte as QEMU writes it.

Objects in the order of a QDict, `", "` and `": "` between, ASCII only with upper case hex digits, doubles with 17
significant digits. The pretty form indents by four and opens a line even for an empty object. A line of a monitor ends
in CR LF, and so does every line of the pretty form.

`RawJSON` is text that is ready already: it goes out as it is.

QEMU: qobject/qjson.c, qobject/json-writer.c
"""

from __future__ import annotations

from _json import encode_basestring_ascii

from fakeqemu.qapi.qdict import ordered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LAYOUT_LIMIT = 4096

# The keys of an object as they were put in -> (key, quoted key and colon) in the order of the output.
_layouts: dict[tuple[str, ...], list[tuple[str, str]]] = {}


class RawJSON:
    """JSON text in QEMU's compact form, for a reply that is always the same."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def quoted(text: str) -> str:
    """A string as JSON."""
    if text.isascii() and text.isprintable():
        return encode_basestring_ascii(text)
    out = ['"']
    for char in text:
        code = ord(char)
        short = _SHORT.get(code)
        if short is not None:
            out.append(short)
        elif 0x20 <= code < 0x7F:
            out.append(char)
        elif code > 0xFFFF:
            code -= 0x10000
            out.append(f"\\u{0xD800 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}")
        elif 0xD800 <= code <= 0xDFFF:
            out.append("\\uFFFD")  # no character: what QEMU makes of bytes that are no UTF-8
        else:
            out.append(f"\\u{code:04X}")
    out.append('"')
    return "".join(out)


_SHORT = {0x22: '\\"', 0x5C: "\\\\", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t"}


def layout(value: dict[str, Any]) -> list[tuple[str, str]]:
    """(key, `"key": `) of an object in the order of a QDict."""
    keys = tuple(value)
    found = _layouts.get(keys)
    if found is None:
        found = [(key, quoted(key) + ": ") for key in ordered(keys)]
        if len(_layouts) < _LAYOUT_LIMIT and len(keys) < 64:
            _layouts[keys] = found
    return found


def encode(value: Any) -> str:
    """The compact form. Raises TypeError for what is no JSON value."""
    cls = value.__class__
    if cls is str:
        if value.isascii() and value.isprintable():
            return encode_basestring_ascii(value)
        return quoted(value)
    if cls is dict:
        return "{" + ", ".join([prefix + encode(value[key]) for key, prefix in layout(value)]) + "}"
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if cls is list or cls is tuple:
        return "[" + ", ".join([encode(item) for item in value]) + "]"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return "%.17g" % value  # noqa: UP031  the conversion of C
    if isinstance(value, RawJSON):
        return value.data.decode()
    if isinstance(value, str):
        return quoted(value)
    raise TypeError(f"no JSON value: {value!r}")


def encode_pretty(value: Any, indent: int = 0) -> str:
    """The form of `-qmp-pretty`, with LF between lines."""
    if isinstance(value, RawJSON):
        from fakeqemu.qapi.profile import parse_json

        value = parse_json(value.data)
    if not isinstance(value, (dict, list, tuple)):
        return encode(value)
    pad = "\n" + "    " * (indent + 1)
    if isinstance(value, dict):
        parts = [pad + prefix + encode_pretty(value[key], indent + 1) for key, prefix in layout(value)]
        return "{" + ",".join(parts) + "\n" + "    " * indent + "}"
    parts = [pad + encode_pretty(item, indent + 1) for item in value]
    return "[" + ",".join(parts) + "\n" + "    " * indent + "]"


def dumps(value: Any) -> bytes:
    """The compact form as bytes."""
    return encode(value).encode()


def encode_line(value: Any, pretty: bool = False) -> bytes:
    """A message as it stands on the wire."""
    if pretty:
        return (encode_pretty(value).replace("\n", "\r\n") + "\r\n").encode()
    return (encode(value) + "\r\n").encode()
