# SPDX-License-Identifier: MIT
"""What all TLS credentials have in common: an endpoint, a directory of files, a priority.

They are read when the object is made; properties that change later have no effect on what was read, and are still what
a new session looks at.

QEMU: crypto/tlscreds.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError
from fakeqemu.system.user_creatable import UserCreatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

CLIENT, SERVER = "client", "server"

DH_PARAMS = "dh-params.pem"


class TLSCreds(UserCreatable):
    """Base of the credentials."""

    __slots__ = ()

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.define("endpoint", "QCryptoTLSCredsEndpoint", default=CLIENT)
        self.define("dir", "string", default="")
        self.define("verify-peer", "bool", default=True)
        self.define("priority", "string", default="")
        if vm.compat.secret_loaded:
            self.define("loaded", "bool", lambda: self.parent is not None)

    def value(self, name: str) -> Any:
        """The value of a property of ours."""
        return self.read(self._defined[name])

    @property
    def is_server(self) -> bool:
        return bool(self.value("endpoint") == SERVER)

    @property
    def verify_peer(self) -> bool:
        return bool(self.value("verify-peer"))

    def need_dir(self) -> None:
        """Raise QemuError when no directory is given."""
        if "dir" not in self._values:
            raise QemuError("Missing 'dir' property value")

    def file(self, name: str) -> str | None:
        """The path of a file of the directory; None when it is not there."""
        path = self.path_of(name)
        return path if os.access(path, os.R_OK) else None

    def path_of(self, name: str) -> str:
        return f"{self.value('dir')}/{name}"

    def need_file(self, name: str) -> str:
        """The path of a file that has to be there; raises QemuError."""
        path = self.path_of(name)
        try:
            os.stat(path)
        except OSError as err:
            raise QemuError(f"Unable to access credentials {path}: {err.strerror}") from None
        return path

    def read_dh_params(self) -> bytes | None:
        """What a file with parameters for Diffie-Hellman holds, where a server has one; raises QemuError."""
        path = self.file(DH_PARAMS) if "dir" in self._values and self.is_server else None
        if path is None:
            return None
        if self.vm.compat.tls_dh_params_deprecated:
            self.vm.warn_report_once(
                DH_PARAMS,
                f"Use of an external DH parameters file '{path}' is deprecated and will be removed in a future release",
            )
        data = read_file(path)
        from fakeqemu.crypto.session_openssl import are_dh_params

        if not are_dh_params(data):
            raise QemuError(f"Unable to load DH parameters from {path}: Base64 unexpected header error.")
        return data


def read_file(path: str) -> bytes:
    """The content of a file; raises QemuError."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as err:
        raise QemuError(f"Unable to access credentials {path}: {err.strerror}") from None
