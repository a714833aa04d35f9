# SPDX-License-Identifier: MIT
"""TLS without certificates: nobody knows who the other side is.

QEMU: crypto/tlscredsanon.c
"""

from __future__ import annotations

from fakeqemu.crypto.tlscreds import TLSCreds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


class TLSCredsAnon(TLSCreds):
    """`dh_params`: PEM that a server was given, or None."""

    __slots__ = ("dh_params",)

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.dh_params: bytes | None = None

    def complete(self) -> None:
        self.dh_params = self.read_dh_params()
