# SPDX-License-Identifier: MIT
"""What all authorization objects answer.

QEMU: authz/base.c
"""

from __future__ import annotations

from fakeqemu.system.user_creatable import UserCreatable


class QAuthZ(UserCreatable):
    """Base of the authorization objects."""

    __slots__ = ()

    def is_allowed(self, identity: str) -> bool:
        """Whether who calls himself so may go on."""
        raise NotImplementedError
