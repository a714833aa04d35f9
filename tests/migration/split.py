# SPDX-License-Identifier: MIT
"""A saved stream, told apart by the description at its own end, as a program does that knows no device."""

from __future__ import annotations

import json
from typing import Any

from fakeqemu.host.sync import run_sync
from fakeqemu.migration.stream import vmdesc
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.ram_page import block_name

FULL, FOOTER, END = b"\x04", b"\x7e", b"\0\x06"


class Split:
    """The parts of a stream: what comes before the devices, their bodies by name and instance, the description."""

    def __init__(self, data: bytes) -> None:
        self.description, self.text = _description(data)
        #: bodies of FULL sections in order
        self.bodies: dict[tuple[str, int], bytes] = {}
        self.numbers: dict[tuple[str, int], int] = {}
        devices = self.description["devices"]
        at = self._begin(data, devices[0])
        #: header, configuration, RAM, commands
        self.front = data[:at]
        for device in devices:
            at = self._device(data, at, device)
        assert data[at : at + 2] == END, "the devices end where the stream ends"
        assert data[at + 2 :] == len(self.text).to_bytes(4, "big") + self.text

    @staticmethod
    def _begin(data: bytes, device: dict[str, Any]) -> int:
        """Where the first FULL section begins: the last place where it could, for pages may hold anything."""
        name = block_name(device["name"]) + device["instance_id"].to_bytes(4, "big")
        at = data.rindex(name)
        return at - 5

    def _device(self, data: bytes, at: int, device: dict[str, Any]) -> int:
        name = block_name(device["name"]) + device["instance_id"].to_bytes(4, "big")
        number = data[at + 1 : at + 5]
        version = device.get("version")
        assert data[at : at + 1] == FULL, device["name"]
        assert data[at + 5 : at + 5 + len(name)] == name
        at += 5 + len(name)
        if version is not None:
            assert int.from_bytes(data[at : at + 4], "big") == version, device["name"]
        at += 4
        f = QEMUFile.over(data[at:])
        body = run_sync(vmdesc.consume(f, device))
        at += len(body)
        assert data[at : at + 5] == FOOTER + number, f"{device['name']} ends at its footer"
        key = device["name"], device["instance_id"]
        self.bodies[key], self.numbers[key] = body, int.from_bytes(number, "big")
        return at + 5

    def joined(self) -> bytes:
        """The stream, put together again."""
        parts = [self.front]
        for device in self.description["devices"]:
            key = device["name"], device["instance_id"]
            number = self.numbers[key].to_bytes(4, "big")
            version = device.get("version", 0).to_bytes(4, "big")
            parts += [
                FULL,
                number,
                block_name(key[0]),
                key[1].to_bytes(4, "big"),
                version,
                self.bodies[key],
                FOOTER,
                number,
            ]
        return b"".join([*parts, END, len(self.text).to_bytes(4, "big"), self.text])


def _description(data: bytes) -> tuple[dict[str, Any], bytes]:
    at = data.rindex(END + b"\0", 0, data.rindex(b'"devices"'))
    text = data[at + 6 :]
    assert int.from_bytes(data[at + 2 : at + 6], "big") == len(text)
    return json.loads(text), text
