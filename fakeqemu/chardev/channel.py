# SPDX-License-Identifier: MIT
"""Character devices over a channel of the host: at most one at a time."""

from __future__ import annotations

from fakeqemu.chardev.char import Chardev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.channel import Channel
    from fakeqemu.system.machine import Machine


class ChannelChardev(Chardev):
    """Writes to a channel while there is one, and reads from it as fast as the front end takes bytes."""

    __slots__ = ("_channel",)

    def __init__(self, vm: Machine, label: str, kind: str) -> None:
        super().__init__(vm, label, kind)
        self._channel: Channel | None = None

    def start(self, channel: Channel) -> None:
        """Read from and write to `channel`."""
        channel.attach(self.received, self.closed)
        self.start_writing(channel)

    def start_writing(self, channel: Channel) -> None:
        """Write to `channel`."""
        self._channel = channel
        self.opened()

    def send_out(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.send(data)

    def greet_waiting(self) -> None:
        if self._channel is not None:
            self._channel.flush()

    def update_reading(self) -> None:
        if self._channel is not None:
            if self.wants_input:
                self._channel.resume_reading()
            else:
                self._channel.pause_reading()

    def release(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.close()
