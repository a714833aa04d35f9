# SPDX-License-Identifier: MIT
"""One QMP monitor: bytes of a client become requests, replies and events become bytes.

    connected ──► greeting ──► qmp_capabilities ──► commands, events ──► disconnected
                     │  only that command is known  │

It owns no socket: somebody calls `connected`, `receive_data`, `disconnected`, and takes what `write` is given. What
one `receive_data` answers goes out in one write.

Requests wait in a queue for the dispatcher. Reading stops when the client has enough of them outstanding: one without
the capability `oob`, eight with it, so that an out-of-band command can overtake seven. A message that is no JSON waits
in the queue too, so its error comes in order. Descriptors received with a message are kept for the next command that
wants one; newer ones take their place.

QEMU: monitor/qmp.c, monitor/monitor.c
"""

from __future__ import annotations

from os import close as _os_close

from fakeqemu.qapi.json_out import encode, encode_line
from fakeqemu.qapi.json_stream import NOTHING, JSONStream, ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.system.machine import Machine

QUEUE_MAX = 8


class _NoId:
    """Stands for an `id` that a request did not have; null is one."""

    __slots__ = ()


NO_ID = _NoId()


def version_info(profile: VersionProfile) -> dict[str, Any]:
    """The version as greeting and query-version give it."""
    major, minor, micro = profile.version
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": profile.package}


def _nothing() -> None:
    pass


class MonitorQMP:
    """The monitor of one character device; one client at a time."""

    __slots__ = (
        "_close_fd",
        "_fds",
        "_out",
        "_parsing",
        "_pause_reading",
        "_paused",
        "_resume_reading",
        "_stream",
        "_vm",
        "_write",
        "connected_now",
        "name",
        "named_fds",
        "negotiated",
        "oob_available",
        "oob_enabled",
        "pretty",
        "queue",
        "suspended",
    )

    def __init__(
        self,
        vm: Machine,
        *,
        write: Callable[[bytes], None],
        pretty: bool = False,
        pause_reading: Callable[[], None] = _nothing,
        resume_reading: Callable[[], None] = _nothing,
        name: str = "",
        oob: bool = True,
        close_fd: Callable[[int], None] = _os_close,
    ) -> None:
        """`oob`: whether the character device can serve out-of-band commands; `name`: its id, for traces."""
        self._vm = vm
        self._write = write
        self._pause_reading = pause_reading
        self._resume_reading = resume_reading
        self._close_fd = close_fd
        self.name = name
        self.pretty = pretty
        self.oob_available = oob
        self.oob_enabled = False
        self.negotiated = False
        self.connected_now = False
        #: messages (or parse errors) that the dispatcher has not taken yet
        self.queue: list[Any] = []
        #: no message is read before the dispatcher has taken or answered one
        self.suspended = False
        self._paused = False
        self._parsing = False
        self._stream = JSONStream(vm.compat.json_errors_at_once)
        self._fds: list[int] = []
        #: descriptors by the name that getfd gave them; they outlive a client
        self.named_fds: dict[str, int] = {}
        self._out: list[bytes] = []
        vm.dispatcher.add_monitor(self)

    def __repr__(self) -> str:
        return f"<MonitorQMP {self.name}>"

    # --- what the transport tells ---------------------------------------------------------------------

    def connected(self) -> None:
        """A client has come: greet it."""
        self._reset()
        self.connected_now = True
        self._vm.trace("fake_monitor_open", monitor=self.name)
        capabilities = ["oob"] if self.oob_available else []
        self.send({"QMP": {"version": version_info(self._vm.profile), "capabilities": capabilities}})

    def receive_data(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Bytes of the client, and the descriptors that came with them."""
        if fds:
            self._drop_fds()
            self._fds = list(fds)
        self._vm.trace("fake_monitor_input", monitor=self.name, data=data)
        self._stream.feed(data)
        dispatcher = self._vm.dispatcher
        dispatcher.begin_batch()
        try:
            self._read_messages()
        finally:
            dispatcher.end_batch()
        self._update_reading()

    def disconnected(self) -> None:
        """The client is gone: what it asked and was not begun is forgotten."""
        if self.connected_now:
            self._vm.trace("fake_monitor_close", monitor=self.name)
        self.connected_now = False
        self._reset()
        if not any(monitor.connected_now for monitor in self._vm.dispatcher.monitors):
            self._vm.fds.last_monitor_gone()

    def close(self) -> None:
        """The monitor itself goes away."""
        self.disconnected()
        self._vm.dispatcher.remove_monitor(self)

    def _reset(self) -> None:
        self.negotiated = self.oob_enabled = False
        self.queue.clear()
        self._stream.reset()
        self._out.clear()
        self._drop_fds()
        self.resume()

    # --- messages in ----------------------------------------------------------------------------------

    def _read_messages(self) -> None:
        """Take messages up to the limit on outstanding requests."""
        if self._parsing:
            return
        self._parsing = True
        try:
            dispatcher = self._vm.dispatcher
            while not self.suspended:
                message = self._stream.next()
                if message is NOTHING:
                    break
                if message.__class__ is dict and "exec-oob" in message and "execute" not in message:
                    dispatcher.run_oob(self, message)
                    continue
                self.queue.append(message)
                if not self.oob_enabled or len(self.queue) >= QUEUE_MAX:
                    self.suspended = True
                dispatcher.run()
        finally:
            self._parsing = False

    def resume(self) -> None:
        """Read on: the dispatcher has taken a request, or answered the only one."""
        if self.suspended:
            self.suspended = False
            self._read_messages()
            if not self._parsing:
                self._update_reading()

    def _update_reading(self) -> None:
        """Tell the transport whether more bytes are wanted; a client that has left is heard of only then."""
        if self.suspended != self._paused:
            self._paused = self.suspended
            if self._paused:
                self._pause_reading()
            else:
                self._resume_reading()

    # --- messages out ---------------------------------------------------------------------------------

    def reply(self, result: Any, request_id: Any = NO_ID) -> None:
        """Answer a request with what its command returned."""
        message = {"return": {} if result is None else result}
        if request_id is not NO_ID:
            message["id"] = request_id
        self.send(message)

    def reply_error(self, cls: str, desc: str, request_id: Any = NO_ID) -> None:
        """Answer a request with an error."""
        message: dict[str, Any] = {"error": {"class": cls, "desc": desc}}
        if request_id is not NO_ID:
            message["id"] = request_id
        self.send(message)

    def emit(self, event: dict[str, Any], line: bytes) -> None:
        """Tell of an event, if the client has negotiated; `line` is its compact form, ready."""
        if self.negotiated:
            self.send_bytes(encode_line(event, True) if self.pretty else line)

    def send(self, message: dict[str, Any]) -> None:
        """Send any message."""
        self.send_bytes(encode_line(message, True) if self.pretty else (encode(message) + "\r\n").encode())

    def send_bytes(self, line: bytes) -> None:
        """Send a message that is on the wire's form."""
        if not self.connected_now:
            return
        self._vm.trace("fake_monitor_output", monitor=self.name, data=line)
        if self._vm.dispatcher.defer_flush(self):
            self._out.append(line)
        else:
            self._write(line)

    def flush(self) -> None:
        """Write what was held back."""
        if self._out:
            out, self._out = self._out, []
            self._write(out[0] if len(out) == 1 else b"".join(out))

    # --- descriptors ----------------------------------------------------------------------------------

    def take_fd(self) -> int | None:
        """The first descriptor of those received last, or None; the others are closed with it."""
        if not self._fds:
            return None
        fd = self._fds.pop(0)
        self._drop_fds()
        return fd

    def _drop_fds(self) -> None:
        fds, self._fds = self._fds, []
        for fd in fds:
            self._close_fd(fd)


__all__ = ["NO_ID", "MonitorQMP", "ParseError", "version_info"]
