# SPDX-License-Identifier: MIT
"""`-incoming`: `defer`, a URI, or a migration channel as JSON or dotted keys.

QEMU: incoming_option_parse in system/vl.c, migration/migration.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.schema import schema_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile


def parse_incoming(profile: VersionProfile, text: str) -> str | dict[str, Any]:
    """ "defer", a URI, or QAPI's MigrationChannel; raises QemuError."""
    if text == "defer" or not profile.compat.incoming_takes_channel:
        return text
    if _is_uri(text):
        _check_uri(text)
        return text
    from fakeqemu.vl.json_option import visit_type

    channels = next(m for m in schema_of(profile).arguments("migrate-incoming").members if m.name == "channels")
    return visit_type(profile, channels.type.element, text, "channel-type")


def _is_uri(text: str) -> bool:
    """Whether letters, or nothing, stand before a colon."""
    scheme, colon, _ = text.partition(":")
    return bool(colon) and scheme.isascii() and (not scheme or scheme.isalpha())


def _check_uri(text: str) -> None:
    scheme, _, address = text.partition(":")
    if scheme in ("tcp", "rdma") and _port_of(address) is None:
        raise QemuError(f"error parsing address '{address}'")


def _port_of(address: str) -> str | None:
    """The port of HOST:PORT[,...], None when there is none."""
    main = address.partition(",")[0]
    if main.startswith("["):
        main = main.partition("]")[2]
    colon = main.find(":")
    return main[colon + 1 :] if colon >= 0 and main[colon + 1 :] else None
