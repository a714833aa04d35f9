# SPDX-License-Identifier: MIT
"""Several front ends on one chardev: what `mux=on` and `mon:stdio` make.

All output goes out; input goes to the front end that has the focus. Ctrl-A and a letter are for the multiplexer: `c`
moves the focus on, `x` ends the emulator, `h` lists the letters, `b` sends a break, Ctrl-A sends Ctrl-A.

QEMU: chardev/char-mux.c
"""

from __future__ import annotations

from fakeqemu.chardev.char import BREAK, CLOSED, OPENED, Chardev
from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.chardev.char import OnData, OnEvent
    from fakeqemu.system.machine import Machine

MAX_FRONTENDS = 4
_ESCAPE = 0x01
MUX_IN = "mux-in"
MUX_OUT = "mux-out"

_HELP = (
    ("h", "print this help"),
    ("x", "exit emulator"),
    ("s", "save disk data back to file (if -snapshot)"),
    ("t", "toggle console timestamps"),
    ("b", "send break (magic sysrq)"),
    ("c", "switch between console and monitor"),
)


class MuxChardev(Chardev):
    """-chardev mux, and the second half of `mux=on`."""

    __slots__ = ("_base", "_escaped", "_focus", "_frontends")

    def __init__(self, vm: Machine, label: str, kind: str) -> None:
        super().__init__(vm, label, kind)
        self._base: Chardev | None = None
        self._frontends: list[tuple[OnData, OnEvent]] = []
        self._focus = -1
        self._escaped = False

    def open(self, backend: dict[str, Any]) -> None:
        base = self.vm.chardevs.find(backend["chardev"])
        if base is None:
            raise QemuError(f"mux: base chardev {backend['chardev']} not found")
        base.claim()
        self._base = base
        base.set_frontend(self._received, self._event)
        base.fe_open = False  # until somebody listens to us

    def claim(self) -> None:
        if len(self._frontends) >= MAX_FRONTENDS:
            raise QemuError(f"Device '{self.label}' is in use")
        self.in_use = True

    def set_frontend(self, on_data: OnData, on_event: OnEvent, *, can_hotswap: bool = False) -> None:  # noqa: ARG002
        self._frontends.append((on_data, on_event))
        self.fe_open = True
        if self._base is not None:
            self._base.fe_open = True
        if self.be_open:
            on_event(OPENED)
        self._set_focus(len(self._frontends) - 1)

    def send_event(self, event: str) -> None:
        if self._focus >= 0:
            self._frontends[self._focus][1](event)

    def _set_focus(self, index: int) -> None:
        if self._focus >= 0:
            self._frontends[self._focus][1](MUX_OUT)
        self._focus = index
        self._frontends[index][1](MUX_IN)

    def _event(self, event: str) -> None:
        self.be_open = event != CLOSED if event in (OPENED, CLOSED) else self.be_open
        for _on_data, on_event in self._frontends:
            on_event(event)

    def _received(self, data: bytes, fds: list[int]) -> None:
        plain = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == _ESCAPE:
                    plain.append(byte)
                else:
                    self._deliver(bytes(plain), fds)
                    plain.clear()
                    self._command(chr(byte))
            elif byte == _ESCAPE:
                self._escaped = True
            else:
                plain.append(byte)
        self._deliver(bytes(plain), fds)

    def _deliver(self, data: bytes, fds: list[int]) -> None:
        if data and self._focus >= 0:
            self._frontends[self._focus][0](data, fds)

    def _command(self, letter: str) -> None:
        if letter == "c" and self._frontends:
            self._set_focus((self._focus + 1) % len(self._frontends))
        elif letter == "b":
            self.send_event(BREAK)
        elif letter in ("h", "?"):
            lines = "".join(f"C-a {key}    {text}\r\n" for key, text in _HELP)
            self.send_out(f"\r\n{lines}C-a C-a  sends C-a\r\n".encode())
        elif letter == "x":
            self.send_out(b"QEMU: Terminated\r\n")
            self.vm.request_shutdown("host-ui")

    def send_out(self, data: bytes) -> None:
        if self._base is not None:
            self._base.write(data)

    def update_reading(self) -> None:
        if self._base is not None:
            if self.input_paused:
                self._base.pause_input()
            else:
                self._base.resume_input()

    def release(self) -> None:
        if self._base is not None:
            self._base.release_frontend()
            self._base = None
