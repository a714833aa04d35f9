# SPDX-License-Identifier: MIT
"""One name is let in.

QEMU: authz/simple.c
"""

from __future__ import annotations

from fakeqemu.authz.base import QAuthZ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


class QAuthZSimple(QAuthZ):
    """`identity` is the name."""

    __slots__ = ()

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.define("identity", "string", default="")

    def is_allowed(self, identity: str) -> bool:
        return bool(identity == self.get("identity"))
