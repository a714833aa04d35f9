# SPDX-License-Identifier: MIT
"""fakeqemu: a QMP-compatible mock QEMU. Not affiliated with the QEMU project.

Importing the package brings in almost nothing; public names resolve on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Machine": "fakeqemu.system.machine",
    "QemuError": "fakeqemu.error",
    "StreamError": "fakeqemu.error",
    "VersionProfile": "fakeqemu.qapi.profile",
}

__all__ = ["Machine", "QemuError", "StreamError", "VersionProfile", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
