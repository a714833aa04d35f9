# SPDX-License-Identifier: MIT
"""Devices that send state on multifd channels, between simulated machines."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError, StreamError
from fakeqemu.faults.injector import Fail, Injector, Rule
from fakeqemu.migration.multifd import DeviceState, SendChannel
from fakeqemu.migration.register import SaveVMHandlers, StateSender
from fakeqemu.migration.stream import multifd_packet as mp
from tests.sim._pair import Pair, status
from tests.sim.test_multifd import INIT, PACKET, multifd_pair, parameters

NAME = "0000:00:05.0/vfio"
PARTS = [bytes((number,)) * (1 + 70_000 * number) for number in range(1, 9)]


class Device(SaveVMHandlers):
    """A device with nothing but state on multifd channels."""

    __slots__ = ("_all_here", "came", "fails", "refuses", "sent", "told_to_stop", "vm")

    has_save_thread = True
    has_load_state_buffer = True

    def __init__(self, *, fails: str = "", refuses: str = "") -> None:
        self.vm: Any = None
        self._all_here: Any = None
        self.fails = fails
        self.refuses = refuses
        self.sent = 0
        self.came: list[bytes] = []
        self.told_to_stop = False

    async def save_complete_precopy_thread(self, sender: StateSender) -> None:
        for part in PARTS:
            if sender.should_exit:
                self.told_to_stop = True
                return
            await sender.send(part)
            self.sent += 1
            if self.fails:
                raise QemuError(self.fails)

    async def load_state_buffer(self, data: bytes) -> None:
        if self.refuses:
            raise StreamError(self.refuses)
        self.came.append(data)
        if len(self.came) == len(PARTS) and self._all_here is not None:
            self._all_here.set()

    async def load_setup(self, f: Any) -> None:
        if self.vm.savevm.sends_device_state():
            self._all_here = self.vm.host.event()
            self.vm.savevm.start_load_thread(self._wait(), "mig/dst/device")

    async def _wait(self) -> None:
        await self._all_here.wait()


class Unloadable(Device):
    """Knows no state in parts on the far side."""

    has_load_state_buffer = False


def with_devices(pair: Pair, *devices: tuple[Device, Device]) -> None:
    for instance, sides in enumerate(devices):
        for side, device in zip((pair.source, pair.destination), sides, strict=True):
            device.vm = side.vm
            side.vm.savevm.register_live(NAME, instance, 1, device)


def nothing_left(pair: Pair) -> None:
    for side in (pair.source, pair.destination):
        assert not [task for task in side.host.tasks if not task.done]
        assert side.vm.bugs == 0


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_parts_of_two_devices_arrive_at_their_owners(profile: str, channels: int) -> None:
    pair = multifd_pair(profile, channels)
    pair.fill(300)
    here, there = (Device(), Device()), (Device(), Device())
    with_devices(pair, (here[0], there[0]), (here[1], there[1]))
    packets: list[Any] = []
    pair.source.vm.trace.watch(lambda _name, fields: packets.append(fields), "multifd_send_fill")
    info = pair.migrate()
    assert info["status"] == "completed", info
    for device in there:
        assert sorted(device.came) == PARTS  # each of them once
    device_bytes = 2 * sum(mp.DEVICE_PACKET_SIZE + len(part) for part in PARTS)
    ram = info["ram"]
    assert ram["multifd-bytes"] == len(packets) * PACKET + INIT * channels + ram["normal-bytes"] + device_bytes
    # Packets of devices have no number: those with pages are counted without a gap.
    assert sorted(fields["packet_num"] for fields in packets) == list(range(len(packets)))
    nothing_left(pair)


def test_devices_and_pages_take_turns_on_the_channels() -> None:
    pair = multifd_pair(channels=4)
    with_devices(pair, (Device(), Device()))
    used: list[int] = []
    send = SendChannel._send_device_state

    async def sent(channel: SendChannel, part: DeviceState) -> None:
        used.append(channel._id)
        await send(channel, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SendChannel, "_send_device_state", sent)
        pair.migrate()
    assert len(used) == len(PARTS)
    assert set(used) == set(range(4))


@pytest.mark.parametrize("why", ["no multifd", "zlib", "7.2"])
def test_where_it_is_not_supported_no_device_is_asked(why: str) -> None:
    pair = multifd_pair("7.2" if why == "7.2" else "11.1")
    if why == "no multifd":
        pair.capabilities(multifd=False)
    if why == "zlib":
        parameters(pair, multifd_compression="zlib")
    here, there = Device(), Device()
    with_devices(pair, (here, there))
    assert not pair.source.vm.savevm.sends_device_state()
    assert pair.migrate()["status"] == "completed"
    assert here.sent == 0
    assert there.came == []


def test_the_error_of_a_device_ends_the_migration_and_the_others_stop() -> None:
    pair = multifd_pair(channels=1)
    first, second = Device(fails="device 0 has no more"), Device()
    with_devices(pair, (first, Device()), (second, Device()))
    info = pair.migrate()
    assert (info["status"], info["error-desc"]) == ("failed", "device 0 has no more")
    assert second.told_to_stop
    assert status(pair.source) == "running"
    nothing_left(pair)


def test_a_channel_that_breaks_ends_the_tasks_of_devices() -> None:
    pair = multifd_pair()
    device = Device()
    with_devices(pair, (device, Device()))
    injector = Injector(pair.source.vm)
    injector.add(Rule("multifd_send_fill", Fail("EIO"), after=24))
    info = pair.migrate()
    assert info["status"] == "failed"
    assert device.sent < len(PARTS)
    assert status(pair.source) == "running"
    nothing_left(pair)


@pytest.mark.parametrize(
    ("owner", "text"),
    [
        (Device(refuses="duplicate buffer"), "duplicate buffer"),
        (Unloadable(), f"idstr {NAME} / instance 0 has no load state buffer operation"),
    ],
    ids=["refused", "no operation"],
)
def test_what_a_destination_cannot_take_fails_it_with_the_reason(owner: Device, text: str) -> None:
    pair = multifd_pair()
    with_devices(pair, (Device(), owner))
    pair.destination.execute("migrate-incoming", uri="unix:/tmp/migration", exit_on_error=False)
    pair.source.execute("migrate", uri="unix:/tmp/migration")
    info = pair.finish()
    assert info["status"] in ("failed", "completed")  # it may have sent all before it hears of it
    there = pair.destination.execute("query-migrate")
    assert (there["status"], there["error-desc"]) == ("failed", text)
    nothing_left(pair)
