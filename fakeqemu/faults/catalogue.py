# SPDX-License-Identifier: MIT
"""Every fault point: its name, what is raised there, and what a rule may match.

A name is that of the trace event next to which the failure happens; where QEMU has an error path but no event, it begins
with `fake_`. `error` says what the code at the point expects to meet, hence what is raised:

    os      OSError, as of a system call
    qemu    QemuError: the text becomes the migration's error
    stream  StreamError: the load fails with this reason
    load    LoadError: the load of one piece of state fails with this reason
    hook    PostLoadError: state was read, and is refused

`text` is what the error says, with the point's fields and `{error}` filled in: QEMU's words where it has words.

What else a rule may do at a point: where it `waits`, delay and stall; where bytes follow (`flow` says which way they
go), corrupt them; where there is a connection, close it. Killing the process goes anywhere. Bytes and connection are those
of the main stream unless `channel` names another: the byte that is corrupted is one of those that are written, or read,
next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fakeqemu.error import QemuError, StreamError
from fakeqemu.faults.rule import Action, Close, Corrupt, Delay, Stall
from fakeqemu.migration.stream.vmstate import LoadError, PostLoadError

if TYPE_CHECKING:
    from collections.abc import Callable

READ = "fake_channel_read"
WRITE = "fake_channel_write"

#: which way bytes go
READS = "read"
WRITES = "write"
_NONE = ""


class Point(NamedTuple):
    """One place where something can be made to fail."""

    name: str
    side: str
    error: str
    text: str
    fields: tuple[str, ...]
    waits: bool
    what: str
    flow: str
    channel: str
    connected: bool

    def actions(self) -> list[str]:
        """What rules may do here, as scenario files name it."""
        waiting = ["delay-ms", "stall"] if self.waits else []
        return [
            "fail", *waiting, *(["corrupt"] if self.flow else []), *(["close"] if self.connected else []), "kill",
        ]  # fmt: skip

    def can(self, action: Action) -> bool:
        """Whether an action makes sense here."""
        if isinstance(action, Delay | Stall):
            return self.waits
        if isinstance(action, Corrupt):
            return bool(self.flow)
        return self.connected or not isinstance(action, Close)


def _point(
    name: str, side: str, error: str, text: str, fields: str, what: str, *,
    waits: bool = False, flow: str = _NONE, channel: str = "", connected: bool = True,
) -> Point:  # fmt: skip
    return Point(name, side, error, text, tuple(fields.split()), waits, what, flow, channel, connected)


_ALL = (
    # before there is a connection
    _point("fake_savevm_prepare", "source", "qemu", "{id}: {error}", "id", "asking a live device whether it can go along",
           connected=False),
    _point("migration_socket_outgoing_connected", "source", "qemu", "Failed to connect to '{address}': {error}", "address",
           "the source's connection", waits=True, connected=False),
    _point("migration_tls_outgoing_handshake_start", "source", "qemu", "TLS handshake failed: {error}", "hostname",
           "the source's side of a TLS handshake", waits=True, connected=False),
    _point("migration_file_outgoing", "source", "os", "", "filename", "opening the file that is written", connected=False),
    _point("migration_exec_outgoing", "source", "os", "", "command", "starting the program that is written to",
           connected=False),
    _point("migration_fd_outgoing", "source", "os", "", "fd", "taking a descriptor", connected=False),
    _point("qio_channel_socket_listen_sync", "destination", "qemu", "Failed to listen at '{address}': {error}", "address",
           "listening: the reply of migrate-incoming", connected=False),
    _point("migration_socket_incoming_accepted", "destination", "os", "", "",
           "accepting a connection; one that is not accepted is closed", connected=False),
    _point("migration_tls_incoming_handshake_start", "destination", "qemu", "TLS handshake failed: {error}", "",
           "the destination's side of a TLS handshake: it waits for another connection", waits=True, connected=False),
    _point("migration_file_incoming", "destination", "os", "", "filename", "opening the file that is read", connected=False),
    _point("migration_exec_incoming", "destination", "os", "", "command", "starting the program that is read from",
           connected=False),
    _point("migration_fd_incoming", "destination", "os", "", "fd", "taking a descriptor", connected=False),
    # the link
    _point(READ, "both", "os", "", "channel position", "one read of a migration channel", waits=True, flow=READS),
    _point(WRITE, "both", "os", "", "channel position size", "one write of a migration channel", waits=True, flow=WRITES),
    # the source
    _point("migration_call_notifiers", "source", "qemu", "Notifier of precopy setup failed: {error}", "event",
           "whoever wants to know of the beginning", waits=True),
    _point("open_return_path_on_source", "source", "qemu", "Unable to open return-path", "", "opening the return path"),
    _point("fake_ram_save_setup", "source", "qemu", "ram_save_setup failed: {error}", "", "beginning to track dirty pages",
           flow=WRITES),
    _point("savevm_section_start", "source", "qemu", "Channel error: {error}", "id phase",
           "a live section behind its header (phase: start, part, end)", waits=True, flow=WRITES),
    _point("migration_completion_vm_stop", "source", "qemu", "Failed to stop the VM: {error}", "",
           "stopping the guest for the switchover", waits=True),
    _point("ram_write_tracking_ramblock_start", "source", "qemu", "Failed to watch the guest's writes: {error}", "",
           "freezing the memory for a background snapshot", waits=True),
    _point("fake_bg_migration_completion", "source", "qemu", "Failed to complete the background snapshot: {error}", "",
           "devices of a background snapshot, all memory being sent", waits=True),
    _point("postcopy_start", "source", "qemu", "Failed to start postcopy: {error}", "", "the switch to postcopy", waits=True),
    _point("migration_block_activation", "source", "qemu", "Block inactivate failed during switchover", "",
           "giving block devices away, the guest being stopped"),
    _point("ram_save_complete", "source", "qemu", "Channel error: {error}", "", "the last pass over the RAM", flow=WRITES),
    _point("vmstate_save", "source", "qemu", "Channel error: {error}", "id", "saving one device, section header and all",
           flow=WRITES),
    _point("source_return_path_thread_loop_top", "source", "qemu", "Unable to read from socket: {error}", "",
           "waiting for a message of the destination", waits=True),
    # the destination
    _point("loadvm_state_setup", "destination", "stream", "{error}", "id", "preparing a live device for what will come",
           flow=READS),
    _point("qemu_loadvm_state_section", "destination", "stream", "Failed to load section: {error}", "section_type",
           "one section of any kind, behind its first byte", waits=True, flow=READS),
    _point("loadvm_process_command", "destination", "stream", "Failed to process command: {error}", "com",
           "a command of the stream, behind its header", waits=True, flow=READS),
    _point("vmstate_load_state", "destination", "load", "Failed to load {name}: {error}", "name", "the configuration section",
           flow=READS),
    _point("vmstate_load", "destination", "stream", "Failed to load {id}: {error}", "id",
           "loading one device: behind its section header", waits=True, flow=READS),
    _point("ram_load_start", "destination", "stream", "", "", "a section of pages", flow=READS),
    _point("migrate_global_state_post_load", "destination", "hook", "invalid parameter value: {state}", "state",
           "taking the run state that came"),
    _point("migrate_send_rp_message", "destination", "os", "", "msg_type", "a message to the source", waits=True),
    # multifd
    _point("multifd_new_send_channel_async", "source", "qemu", "Failed to connect channel {id}: {error}", "id",
           "the connection of a further channel", waits=True),
    _point("multifd_send_fill", "source", "qemu", "multifd_send {id}: {error}", "id packet_num", "sending a packet",
           waits=True, flow=WRITES, channel="migration-multifd-send-{id}"),
    _point("multifd_send_sync_main", "source", "qemu", "multifd_send_sync_main: {error}", "",
           "waiting for all channels at the end of a pass"),
    _point("multifd_recv_new_channel", "destination", "stream", "{error}", "", "the first packet of a further channel"),
    _point("multifd_recv_unfill", "destination", "stream", "multifd {id}: {error}", "id packet_num",
           "a packet, between its header and its pages", flow=READS, channel="migration-multifd-recv-{id}"),
    # VFIO
    _point("fake_vfio_query_migration_flags", "both", "os", "", "device", "asking whether a device can migrate",
           connected=False),
    _point("vfio_query_stop_copy_size", "source", "os", "", "device", "asking how much STOP_COPY will produce"),
    _point("vfio_query_precopy_size", "source", "os", "", "device", "asking how much there is to precopy"),
    _point("vfio_save_setup", "source", "qemu", "{device}: Failed to allocate migration data buffer", "device",
           "the buffer for a device's data", flow=WRITES),
    _point("vfio_save_block", "source", "os", "", "device", "reading a device's data", flow=WRITES),
    _point("vfio_save_device_config_state", "source", "qemu", "{device}: Failed to save config space: {error}", "device",
           "saving a device's config space", flow=WRITES),
    _point("vfio_load_state_device_data", "destination", "os", "", "device", "writing a device's data"),
    _point("vfio_load_device_config_state_start", "destination", "stream",
           "{device}: Failed to load device config space: {error}", "device", "loading a device's config space", flow=READS),
    _point("vfio_migration_set_state", "both", "os", "", "device to", "asking a device for a state", waits=True),
    _point("fake_vfio_arc", "both", "os", "", "device from_state to_state", "one arc on the way to a state", waits=True),
    _point("vfio_pci_reset", "both", "os", "", "device", "resetting a device"),
)  # fmt: skip

POINTS: dict[str, Point] = {point.name: point for point in _ALL}

_KINDS: dict[str, Callable[[str, int], Exception]] = {
    "qemu": lambda text, _number: QemuError(text),
    "stream": StreamError,
    "load": lambda text, number: LoadError(text, number, [text] if text else []),
    "hook": PostLoadError,
}


def error_at(point: Point, number: int, strerror: str, fields: dict[str, object], text: str | None = None) -> Exception:
    """What is raised at `point` for an errno; `text` in place of the point's own words (not of a system call's)."""
    if point.error == "os":
        return OSError(number, strerror)
    words = text if text is not None else point.text.format(**fields, error=strerror)
    return _KINDS[point.error](words, number)
