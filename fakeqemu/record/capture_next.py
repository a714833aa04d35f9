# SPDX-License-Identifier: MIT
"""The overlay profile `next`: 11.1 and the changes that were posted for QEMU and are in no release.

Made by this module, never by hand. It reports version 11.1.50, as QEMU's development trees do, and differs from
11.1 in what a user sees of the changes: vfio-pci devices have the property x-migration-parallel-states, and compat
rows say which behaviour is on.
"""

from __future__ import annotations

import os
from typing import Any

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.record.capture_tables import ProfileWriter

BASE = "11.1"
NAME = "next"
VERSION = {"major": 11, "minor": 1, "micro": 50}
DOTTED = "11.1.50"
VERSION_LINE = f"QEMU emulator version {DOTTED} (fakeqemu next)"
COMPAT = {"memory_load_transaction": True, "memory_read_policy": "force", "vfio_parallel_states": True}

PROPERTY = {
    "name": "x-migration-parallel-states",
    "type": "bool",
    "description": "Run the migration state transitions of this device in parallel with those of other devices",
    "default": True,
}
# The property stands behind this one wherever properties are listed in QEMU's order of chance.
NEIGHBOUR = "x-migration-multifd-transfer"
VFIO_TYPES = ("vfio-pci", "vfio-pci-nohotplug")


def write_next(schemas: str) -> str:
    """Write the overlay beside its base in the folder `schemas`; returns its folder."""
    base = VersionProfile(os.path.join(schemas, BASE))
    folder = os.path.join(schemas, NAME)
    writer = ProfileWriter(
        folder,
        {
            "name": NAME,
            "base": BASE,
            "version": VERSION,
            "package": "",
            "version-line": VERSION_LINE,
            "emulator": "none: an overlay, made by record/capture_next.py",
            "captured": base.manifest["captured"],
            "compat": COMPAT,
        },
    )
    for table in ("qom-properties", "device-properties"):
        writer.table(table, {name: _with_property(base.get(table, name)) for name in VFIO_TYPES}, compress=False)
    writer.table(
        "help",
        {
            **{f"-device {name},help": _with_help(base.get("help", f"-device {name},help")) for name in VFIO_TYPES},
            "-version": _version_help(base),
        },
        compress=False,
    )
    writer.table(
        "queries",
        {key: {"package": "", "qemu": VERSION} for key in base.keys("queries") if key.endswith("/query-version")},
        compress=False,
    )
    writer.table(
        "hmp", {key: f"{DOTTED}\r\n" for key in base.keys("hmp") if key.endswith("/info version")}, compress=False
    )
    return folder


def _with_property(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    neighbour = next(entry for entry in listed if entry["name"] == NEIGHBOUR)
    values = {**PROPERTY, "default-value": PROPERTY["default"]}
    # The members of an entry come in the order in which the neighbour's come.
    entry = {member: values[member] for member in neighbour}
    at = listed.index(neighbour) + 1
    return [*listed[:at], entry, *listed[at:]]


def _with_help(text: dict[str, Any]) -> dict[str, Any]:
    head, *lines = text["stdout"].splitlines()
    default = "on" if PROPERTY["default"] else "off"
    start = f"  {PROPERTY['name']}=<{PROPERTY['type']}>"
    # QEMU pads names to a column and sorts the lines.
    line = f"{start:<24} - {PROPERTY['description']} (default: {default})"
    return {**text, "stdout": "\n".join([head, *sorted([*lines, line], key=_property_of), ""])}


def _property_of(line: str) -> str:
    return line.strip().partition("=")[0]


def _version_help(base: VersionProfile) -> dict[str, Any]:
    text = base.get("help", "-version")
    return {**text, "stdout": text["stdout"].replace(base.version_line, VERSION_LINE)}
