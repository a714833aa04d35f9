# SPDX-License-Identifier: MIT
"""Every place that a host's name stands for: those listen at all of them that use QEMU's network listeners.

QEMU: io/dns-resolver.c
"""

from __future__ import annotations

import _socket

from fakeqemu.io.socket import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.channel import SocketAddress


def places_to_listen(address: SocketAddress) -> list[SocketAddress]:
    """An address for each of those that a name stands for; raises QemuError in QEMU's words."""
    if address["type"] != "inet":
        return [address]
    places: list[SocketAddress] = []
    for family, _type, _proto, _canonical, target in resolve(address, passive=True):
        place = {**address, "host": target[0], "port": str(target[1]), "numeric": True}
        if places and family == _socket.AF_INET6:
            place["ipv6"] = True  # IPv4 has a socket of its own
        places.append(place)
    return places
