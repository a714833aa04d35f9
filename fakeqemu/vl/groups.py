# SPDX-License-Identifier: MIT
"""The groups of parameters: `-chardev`, `-mon`, `-name` ... each fills one.

What a group takes is data of the profile (QEMU's query-command-line-options). How it reads (which key the first value
belongs to, whether several options merge) no query tells, so it stands here.

QEMU: util/qemu-config.c, the qemu_*_opts of each subsystem
"""

from __future__ import annotations

from fakeqemu.vl.opts import OptsList, Param

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile

#: group -> (implied key, whether options merge)
_READING: dict[str, tuple[str | None, bool]] = {
    "accel": ("accel", False),
    "action": (None, True),
    "add-fd": (None, False),
    "boot-opts": ("order", True),
    "chardev": ("backend", False),
    "device": ("driver", False),
    "global": (None, False),
    "icount": ("shift", True),
    "memory": ("size", True),
    "mon": ("chardev", False),
    "msg": (None, False),
    "name": ("guest", True),
    "net": ("type", False),
    "netdev": ("type", False),
    "nic": ("type", False),
    "numa": ("type", False),
    "object": ("qom-type", False),
    "overcommit": (None, False),
    "rtc": (None, True),
    "run-with": (None, False),
    "sandbox": ("enable", False),
    "smp-opts": ("cpus", True),
    "tpmdev": ("type", False),
    "trace": ("enable", False),
    "fw_cfg": ("name", False),
    "smbios": (None, False),
    "acpi": ("sig", False),
    "option-rom": ("romfile", False),
    "drive": (None, False),
    "vnc": ("vnc", False),
    "spice": (None, False),
    "iscsi": (None, False),
    "fsdev": ("fsdriver", False),
    "virtfs": ("fsdriver", False),
    "plugin": ("file", False),
    "semihosting-config": (None, True),
}


class Groups:
    """All groups of one command line, each made when it is first asked for."""

    __slots__ = ("_described", "_groups", "_profile")

    def __init__(self, profile: VersionProfile) -> None:
        self._profile = profile
        self._groups: dict[str, OptsList] = {}
        self._described: dict[str, list[dict[str, Any]]] | None = None

    def __getitem__(self, name: str) -> OptsList:
        """The group; KeyError when this QEMU has none of that name."""
        group = self._groups.get(name)
        if group is None:
            implied, merge = _READING.get(name, (None, False))
            params = [
                Param(entry["name"], entry["type"], entry.get("help"), entry.get("default"))
                for entry in self._describe(name)
            ]
            group = self._groups[name] = OptsList(name, implied, merge, params)
        return group

    def exists(self, name: str) -> bool:
        """Whether this QEMU has such a group."""
        try:
            self._describe(name)
        except KeyError:
            return False
        return True

    def given(self, name: str) -> OptsList | None:
        """The group if some option has filled it."""
        group = self._groups.get(name)
        return group if group is not None and group.items else None

    def _describe(self, name: str) -> list[dict[str, Any]]:
        # Most groups have the name of their option, whose entry is the smaller thing to read.
        option = self._profile.get("options", name, None)
        if option is not None and option["params"] is not None:
            return option["params"]  # type: ignore[no-any-return]
        if self._described is None:
            entries = self._profile.get("queries", "none/query-command-line-options")
            self._described = {entry["option"]: entry["parameters"] for entry in entries}
        return self._described[name]
