# SPDX-License-Identifier: MIT
"""-display, -vnc and -audiodev: what is seen and heard of a machine, as far as options say it.

Of sound there is only what cannot be heard: `-audiodev none`. It is there for those who name it (`-vnc audiodev=`), as
libvirt does.

QEMU: parse_display in system/vl.c, vnc_parse in ui/vnc.c, audio_parse_option in audio/audio.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.vl.opts import is_help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.vl.cmdline import CommandLine

_SILENT = "none"


def parse_display(line: CommandLine, text: str) -> None:
    """Raises QemuError, and StartEnded for help."""
    if is_help(text):
        from fakeqemu.vl import helptext

        raise helptext.recorded(line.profile, line.reporter, "-display help")
    if text.startswith("vnc"):
        if not text.startswith("vnc="):
            raise QemuError("VNC requires a display argument vnc=<display>")
        parse_vnc(line, text[len("vnc=") :])
        return
    from fakeqemu.vl.json_option import visit_option

    line.display = visit_option(line.profile, "DisplayOptions", text, "type")


def parse_vnc(line: CommandLine, text: str) -> None:
    """Raises QemuError, and StartEnded for help."""
    opts = line.parse_group("vnc", text, not is_help(text))
    if not line.profile.compat.vnc_ids_assigned_late:
        line.groups["vnc"].name_one(opts)


def parse_audiodev(line: CommandLine, text: str) -> None:
    """Raises QemuError; NotEmulated for what could be heard."""
    if is_help(text):
        raise NotEmulated("help")
    options = _audiodev(line, text)
    if options["driver"] != _SILENT:
        raise NotEmulated(f"driver {options['driver']}")
    line.audiodevs.append(options["id"])


def _audiodev(line: CommandLine, text: str) -> dict[str, Any]:
    """QAPI's Audiodev."""
    if line.profile.has("commands", "query-audiodevs"):
        from fakeqemu.qapi.schema import schema_of
        from fakeqemu.vl.json_option import visit_type

        return visit_type(line.profile, schema_of(line.profile).returns("query-audiodevs").element, text, "driver")
    # Introspection of older releases does not reach the type.
    from fakeqemu.vl import keyval
    from fakeqemu.vl.json_option import parse_json_option

    json = text.startswith("{")
    tree = parse_json_option(line.profile, text) if json else keyval.parse_without_help(text, "driver")
    for name in ("id", "driver"):
        if name not in tree:
            raise QemuError(f"Parameter '{name}' is missing")
        if not isinstance(tree[name], str):
            raise QemuError(f"Invalid parameter type for '{name}', expected: string")
    for name in tree:
        if name not in ("id", "driver"):
            raise NotEmulated(name)
    return tree
