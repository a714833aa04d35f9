# SPDX-License-Identifier: MIT
"""TLS by keys that both sides know already: a file of `NAME:KEY` lines, the key in hexadecimal.

A client takes the key of its `username` when the object is made, a server looks for the name that a client gives.

QEMU: crypto/tlscredspsk.c
"""

from __future__ import annotations

from fakeqemu.crypto.tlscreds import TLSCreds, read_file
from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine

KEYS = "keys.psk"
DEFAULT_USER = "qemu"
#: GnuTLS takes no shorter key
_MIN_KEY_BYTES = 4


class TLSCredsPSK(TLSCreds):
    """`user` and `key` of a client; `users` for a server."""

    __slots__ = ("_keys_path", "key", "user")

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.user = ""
        self.key = b""
        self._keys_path = ""
        self.define("username", "string", default="")

    def complete(self) -> None:
        self.need_dir()
        if self.is_server:
            if "username" in self._values:
                raise QemuError("username should not be set when endpoint=server")
            self.read_dh_params()
            self._keys_path = self.need_file(KEYS)
            return
        path = self.need_file(KEYS)
        self.user = self._values.get("username", DEFAULT_USER)
        text = next((key for name, key in _lines(read_file(path)) if name == self.user), None)
        if text is None:
            raise QemuError(f"Username {self.user} not found in PSK file {path}")
        try:
            self.key = _key(text)
        except ValueError:
            raise QemuError("Cannot set PSK client credentials: Error in parsing.") from None
        if len(self.key) < _MIN_KEY_BYTES:
            raise QemuError("Cannot set PSK client credentials: The request is invalid.")

    def users(self) -> list[tuple[str, bytes]]:
        """(server) Names and keys of those who may come, by the file as it is now."""
        try:
            lines = _lines(read_file(self._keys_path))
        except QemuError:
            return []
        found = []
        for name, text in lines:
            try:
                found.append((name, _key(text)))
            except ValueError:
                pass
        return found


def _lines(data: bytes) -> list[tuple[str, str]]:
    """Name and key of each line that has both."""
    found = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        name, colon, key = line.partition(":")
        if colon:
            found.append((name, key))
    return found


def _key(text: str) -> bytes:
    """Raises ValueError."""
    if any(map(str.isspace, text)):
        raise ValueError(text)
    return bytes.fromhex(text)
