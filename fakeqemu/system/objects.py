# SPDX-License-Identifier: MIT
"""Small user-creatable objects: secrets and sources of randomness.

QEMU: crypto/secret.c, crypto/secret_common.c, backends/rng.c, backends/rng-builtin.c
"""

from __future__ import annotations

import binascii
import os

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.system.user_creatable import UserCreatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine

_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n"
AES_BLOCK = 16


class Secret(UserCreatable):
    """Sensitive data, given in the open or in a file, plain or as base64; `content` once complete.

    Data encrypted with another secret is checked as far as that goes without a cipher, and then refused as not emulated.
    """

    __slots__ = ("content",)

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.content = b""
        for name in ("iv", "keyid", "file", "data"):
            self.define(name, "string", default="")
        self.define("format", "QCryptoSecretFormat", default="raw")
        if vm.compat.secret_loaded:
            self.define("loaded", "bool", lambda: bool(self.content))

    def _given(self, name: str) -> str | None:
        value: str | None = self._values.get(name)
        return value

    def complete(self) -> None:
        content = self._load()
        encrypted = self._given("keyid") is not None
        if encrypted:
            content = self._decrypt(content)
        elif self._given("format") == "base64":
            content = decode_base64(content)
        self.content = content

    def _load(self) -> bytes:
        path, data = self._given("file"), self._given("data")
        if path is not None:
            if data is not None:
                raise QemuError("'file' and 'data' are mutually exclusive")
            return read_file(path)
        if data is None:
            raise QemuError("Either 'file' or 'data' must be provided")
        return data.encode("utf-8", "surrogateescape")

    def _decrypt(self, content: bytes) -> bytes:
        keyid, iv = self._given("keyid"), self._given("iv")
        key = self.vm.qom.objects.children.get(keyid or "")
        if not isinstance(key, Secret):
            raise QemuError(f"No secret with id '{keyid}'")
        if iv is None:
            raise QemuError("IV is required to decrypt secret")
        vector = decode_base64(iv.encode())
        if len(vector) != AES_BLOCK:
            raise QemuError(f"IV should be {AES_BLOCK} bytes in length not {len(vector)}")
        if self._given("format") == "base64":
            content = decode_base64(content)
        if len(content) % AES_BLOCK:
            raise QemuError(f"Length {len(content)} must be a multiple of block size {AES_BLOCK}")
        raise NotEmulated("A secret encrypted with another secret is not emulated")


def decode_base64(data: bytes) -> bytes:
    """The bytes that base64 text means, as leniently as QEMU reads it; raises QemuError for other characters."""
    text = data.decode("latin-1")
    if any(char not in _BASE64 for char in text):
        raise QemuError("Base64 data contains invalid characters")
    text = text.replace("\n", "")
    if len(text) % 4 == 1:
        text = text[:-1]  # six bits are no byte
    return binascii.a2b_base64(text + "=" * (-len(text) % 4))


def read_file(path: str) -> bytes:
    """The content of a file; raises QemuError in the words of QEMU and GLib."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise QemuError(f"Unable to read {path}: Failed to open file “{path}”: {err.strerror}") from None
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    except OSError as err:
        raise QemuError(f"Unable to read {path}: Failed to read from file “{path}”: {err.strerror}") from None
    finally:
        os.close(fd)


class RngBackend(UserCreatable):
    """A source of random bytes for virtio-rng."""

    __slots__ = ("_opened",)

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._opened = False
        self.define("opened", "bool", lambda: self._opened)

    def complete(self) -> None:
        self._opened = True

    def check_deletable(self) -> None:
        """QEMU lets it go whoever uses it."""


class RngRandom(RngBackend):
    """Random bytes from a file of the host."""

    __slots__ = ("_fd", "_filename")

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._fd = -1
        self._filename = "/dev/urandom"
        self.define("filename", "string", lambda: self._filename, self._set_filename)

    def _set_filename(self, value: str) -> None:
        if self._opened:
            raise QemuError("Insufficient permission to perform this operation")
        self._filename = value

    def complete(self) -> None:
        try:
            self._fd = self.vm.fds.open_path(self._filename, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as err:
            raise QemuError(f"Could not open '{self._filename}': {err.strerror}") from None
        super().complete()

    def unparented(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
