# SPDX-License-Identifier: MIT
"""`-object`: JSON, or a type's name and flat parameters, as QAPI's ObjectOptions.

QEMU: object_option_parse in system/vl.c, qom/object_interfaces.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.schema import schema_of
from fakeqemu.vl.opts import is_help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.vl.cmdline import CommandLine

#: made after the character devices, because they use them
_AFTER_CHARDEVS = ("rng-egd", "qtest", "cryptodev-vhost-user", "vhost-user-blk-server", "colo-compare")
#: type name begins so -> made after network and block devices (filters) or because it takes long (memory)
_LATE_PREFIXES = ("filter-", "memory-backend-", "monitor-")


def parse_object(line: CommandLine, text: str) -> dict[str, Any]:
    """What one -object asks for; raises QemuError, and StartEnded when help was printed."""
    type_ = schema_of(line.profile).arguments("object-add")
    if text.startswith("{"):
        from fakeqemu.vl.json_option import visit_type

        return visit_type(line.profile, type_, text, None)
    opts = line.groups["object"].parse(text, line.reporter.at, True, line.reporter.warn)
    type_name = opts.get("qom-type")
    if type_name is None:
        raise QemuError("Parameter 'qom-type' is missing")
    if is_help(type_name):
        from fakeqemu.vl import helptext

        raise helptext.recorded(line.profile, line.reporter, "-object help")
    if any(is_help(name) for name, _ in opts.values) and line.profile.is_type(type_name):
        from fakeqemu.vl import helptext

        raise helptext.object_type(line.profile, line.reporter, type_name)
    from fakeqemu.vl.text_visitor import OptsVisitor

    values = list(opts.values)
    if opts.id is not None:
        values.append(("id", opts.id))
    return OptsVisitor().visit_object(type_, values)


def is_early(type_name: str) -> bool:
    """Whether objects of this type are made before the character devices."""
    return type_name not in _AFTER_CHARDEVS and not type_name.startswith(_LATE_PREFIXES)
