# SPDX-License-Identifier: MIT
"""What a profile knows of device types: aliases, buses, and what came of realizing them.

`info qdm` of the real QEMU says on which bus a type goes, under which other name it is known, and whether a user may
make it; the table `realize` holds what happened when the capture made one, cold and hot, on several machines.

QEMU: system/qdev-monitor.c (qdev_print_devinfo and the table of aliases)
"""

from __future__ import annotations

from fakeqemu.qapi.profile import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile

#: machines of the table `realize`; `rich` is a q35 with buses of most kinds
MACHINES = ("rich", "q35", "pc", "microvm")

_texts: dict[str, str] = {}


def _qdm(profile: VersionProfile) -> str:
    text = _texts.get(profile.name)
    if text is None:
        text = _texts[profile.name] = str(profile.get("hmp", "none/info qdm", "")).replace("\r", "")
    return text


def _line(profile: VersionProfile, type_name: str) -> str:
    text = _qdm(profile)
    at = text.find(f'name "{type_name}"')
    return text[at : text.find("\n", at)] if at >= 0 else ""


def canonical_type(profile: VersionProfile, driver: str) -> str:
    """The type that a driver's name means: the name itself, or what it is an alias of."""
    if profile.is_type(driver):
        return driver
    text = _qdm(profile)
    at = text.find(f'alias "{driver}"')
    if at < 0:
        return driver
    start = text.rfind('name "', 0, at) + len('name "')
    return text[start : text.index('"', start)]


def alias_of(profile: VersionProfile, type_name: str) -> str | None:
    """The other name that a type is known by."""
    line = _line(profile, type_name)
    at = line.find('alias "')
    return line[at + len('alias "') : line.index('"', at + len('alias "'))] if at >= 0 else None


def bus_type(profile: VersionProfile, type_name: str) -> str | None:
    """The kind of bus that a type goes on; None where it sits on no bus or the profile does not know."""
    line = _line(profile, type_name)
    at = line.find(", bus ")
    if at < 0:
        return None
    start = at + len(", bus ")
    end = line.find(",", start)
    return line[start:] if end < 0 else line[start:end]


def user_creatable(profile: VersionProfile, type_name: str) -> bool:
    """Whether `-device` may make one at all."""
    if type_name.endswith("-x86_64-cpu"):
        return True
    line = _line(profile, type_name)
    return line != "" and not line.endswith(", no-user")


def outcomes(profile: VersionProfile, type_name: str) -> dict[str, dict[str, Any]]:
    """The record of table `realize`: machine -> "cold" and "hot" -> outcome; empty where there is none."""
    record = profile.get("realize", type_name, MISSING)
    return record if isinstance(record, dict) else {}


def error_text(outcome: dict[str, Any]) -> str:
    """What an outcome's refusal said, without hint and place; "" for a success or a crash."""
    error = outcome.get("error", "")
    if isinstance(error, dict):
        error = error.get("desc", "")
    return str(error)


def hotpluggable(profile: VersionProfile, type_name: str) -> bool:
    """Whether the type lets itself be plugged and unplugged while the machine runs."""
    for variants in outcomes(profile, type_name).values():
        hot, cold = error_text(variants.get("hot", {})), error_text(variants.get("cold", {}))
        if hot == f"Device '{type_name}' does not support hotplugging":
            return False
        # Before 10.0 such a type was refused as if users could not make it.
        if hot == PLUGGABLE_TEXT and PLUGGABLE_TEXT not in cold:
            return False
    return True


PLUGGABLE_TEXT = "Parameter 'driver' expects a pluggable device type"
