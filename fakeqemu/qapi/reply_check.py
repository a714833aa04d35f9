# SPDX-License-Identifier: MIT
"""What we send, held against the schema: a reply or an event of the wrong shape is a bug of ours.

Tests switch it on (`Dispatcher.check_replies`); QEMU has it from its C types.
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.json_out import RawJSON
from fakeqemu.qapi.visitor import QObjectInputVisitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

_INT64_MAX, _UINT64_MAX = (1 << 63) - 1, (1 << 64) - 1


class WrongShape(AssertionError):
    """A reply or an event does not fit its type."""


class _ReplyVisitor(QObjectInputVisitor):
    """Introspection says `int` of 64 bits without a sign, too."""

    __slots__ = ()

    def _int(self, width: str, value: Any) -> int:
        if type(value) is int and _INT64_MAX < value <= _UINT64_MAX:
            return value
        return super()._int(width, value)


def check_reply(vm: Machine, type_: Any, value: Any) -> None:
    """Raise WrongShape if `value` is no value of the type; None stands for the empty object."""
    if isinstance(value, RawJSON):
        from fakeqemu.qapi.profile import parse_json

        value = parse_json(value.data)
    try:
        _ReplyVisitor().visit(type_, {} if value is None else value)
    except QemuError as error:
        raise WrongShape(f"not a value of type {type_.name} of QEMU {vm.profile.name}: {error.desc}") from None
