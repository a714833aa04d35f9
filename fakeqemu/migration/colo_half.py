# SPDX-License-Identifier: MIT
"""What both halves of a COLO pair have in common: the messages, and the way out of the pair.

A message is a number of 32 bits, on the main channel from primary to secondary, on the return path back:

    primary                                    secondary
                     ◂── checkpoint-ready ──   once, when its guest runs
    checkpoint-request ────────────────────▸   stops
                     ◂── checkpoint-reply ──
    stops; vmstate-send, pages, EOF ───────▸   pages go into a copy of its memory
    vmstate-size, size, devices ───────────▸
                     ◂── vmstate-received ──   what differs is copied over, devices are loaded
                     ◂── vmstate-loaded ────   runs
    runs

Whatever goes wrong ends the conversation, nothing else: COLO_EXIT tells of it, and the half stays as it is until somebody
who knows which of the two is still there says x-colo-lost-heartbeat. Then the half stops, its migration is `completed`,
and its guest goes on without the other one.

QEMU: migration/colo.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration import colo
from fakeqemu.migration.stream.qemu_file import EndOfStream
from fakeqemu.system import runstate as rs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine

(
    CHECKPOINT_READY, CHECKPOINT_REQUEST, CHECKPOINT_REPLY, VMSTATE_SEND, VMSTATE_SIZE, VMSTATE_RECEIVED, VMSTATE_LOADED,
) = range(7)  # fmt: skip
MESSAGES = (
    "checkpoint-ready", "checkpoint-request", "checkpoint-reply", "vmstate-send", "vmstate-size", "vmstate-received",
    "vmstate-loaded",
)  # fmt: skip

#: what every error of the link is called here, whatever it was
EIO_TEXT = "Input/output error"


class ConversationOver(Exception):
    """Nothing more is said to the other half, and there is nothing to print."""


class ColoHalf:
    """One half of a pair."""

    __slots__ = ("_exit_told", "_told", "f", "failed_over", "failing_over", "vm", "write_words")

    #: colo.PRIMARY or colo.SECONDARY
    mode = colo.NONE

    def __init__(self, vm: Machine, f: QEMUFile) -> None:
        self.vm = vm
        #: both directions
        self.f = f
        #: somebody wants the half to go on alone
        self.failing_over = False
        #: ... and the pair is dissolved
        self.failed_over = False
        self._told = vm.host.event()
        self._exit_told = False
        #: how an error of writing is called: where pages failed, by what their handler says
        self.write_words = EIO_TEXT
        vm.colo.half = self

    async def run(self) -> None:
        """The life of the half, until its guest goes on alone."""
        vm = self.vm
        try:
            await self._converse()
        except ConversationOver:
            pass
        except QemuError as err:
            vm.error_report(err.desc)
        except Exception as err:  # a bug of ours: said loudly, and the half can still go on alone
            vm.report_bug(err, "colo")
        self.tell_exit()
        await self._told.wait()
        await self._go_on_alone()

    def tell_exit(self) -> None:
        """COLO_EXIT, once."""
        if not self._exit_told:
            self._exit_told = True
            reason = colo.REQUEST if self.failing_over else colo.ERROR
            self.vm.emit("COLO_EXIT", {"mode": self.mode, "reason": reason})

    async def _converse(self) -> None:
        """One checkpoint after the other; raises ConversationOver, or QemuError for what is printed, when there can be none."""
        raise NotImplementedError

    async def _go_on_alone(self) -> None:
        """The pair is dissolved: start the guest, give back what belongs to the migration."""
        raise NotImplementedError

    def _complete(self) -> None:
        """The status of this side's migration is `completed`."""
        raise NotImplementedError

    def delay_set(self) -> None:
        """The parameter x-checkpoint-delay was set."""

    # --- the way out ----------------------------------------------------------------------------------

    async def fail_over(self) -> None:
        """Leave the pair: the guest is stopped, and goes on when `run` has seen it. The caller holds the BQL."""
        vm = self.vm
        self.failing_over = True
        vm.trace("colo_failover_set_state", new_state="require")
        vm.trace("colo_failover_set_state", new_state="active")
        await vm.runstate.vm_stop_force_state(rs.COLO)
        self._complete()
        self.failed_over = True
        vm.trace("colo_failover_set_state", new_state="completed")
        self.f.shutdown()
        self._told.set()
        self.wake()

    def wake(self) -> None:
        """Whoever waits for time to pass looks again."""

    def check(self) -> None:
        """Raise ConversationOver when the half leaves the pair."""
        if self.failing_over:
            raise ConversationOver

    # --- messages -------------------------------------------------------------------------------------

    async def send(self, message: int) -> None:
        """Send a message; raises QemuError."""
        msg = MESSAGES[message]
        try:
            if self.f.write_error is None:
                await self.vm.faults.pass_through("colo_send_message", msg=msg)
        except QemuError as err:
            self.f.write_error = err  # it stays
            raise
        self.f.put_be32(message)
        try:
            await self.f.flush()
        except QemuError:
            raise QemuError(f"Can't send COLO message: {self.write_words}") from None
        finally:
            self.vm.trace("colo_send_message", msg=msg)

    async def receive(self, awaited: int) -> int:
        """The next message, which should be `awaited`; raises QemuError."""
        try:
            if self.f.end is None:
                await self.vm.faults.pass_through("colo_receive_message", msg=MESSAGES[awaited])
        except QemuError:
            self.f.end = EndOfStream()  # it stays
            raise
        try:
            message = await self.f.get_be32()
        except EndOfStream:
            message = 0
        if self.f.end is not None:
            raise QemuError(f"Can't receive COLO message: {EIO_TEXT}")
        if message >= len(MESSAGES):
            raise QemuError("colo_receive_message: Invalid message")
        self.vm.trace("colo_receive_message", msg=MESSAGES[message])
        return message

    async def expect(self, expected: int) -> None:
        """Wait for that message; raises QemuError."""
        message = await self.receive(expected)
        if message != expected:
            raise QemuError(f"Unexpected COLO message {message}, expected {expected}")

    # --- the guest ------------------------------------------------------------------------------------

    async def stop_guest(self) -> None:
        """For the time of a checkpoint. Call with the BQL held; raises ConversationOver."""
        self.check()
        await self.vm.runstate.vm_stop_force_state(rs.COLO)
        self.vm.trace("colo_vm_state_change", old="run", new="stop")

    async def start_guest(self) -> None:
        """Both are in step. Call with the BQL held; raises ConversationOver."""
        self.check()
        await self.vm.runstate.vm_start()
        self.vm.trace("colo_vm_state_change", old="stop", new="run")
