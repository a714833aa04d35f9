# SPDX-License-Identifier: MIT
"""Running requests: one in-band command at a time for the whole machine, monitors in turn; out-of-band ones at once.

    MonitorQMP.queue ──► take, round robin ──► check ──► function, under the BQL ──► reply ──► next
                           exec-oob ──────────► check ──► function, without it ────► reply

A command that must wait keeps all others waiting, of whichever monitor, except out-of-band ones. An in-band command
without `oob` lets its monitor read on only when it is answered; with `oob` as soon as it is begun.

The order of checks, which a client can see: envelope (members in the order of the hash table), is there such a
command, `-compat` policy, out-of-band allowed, allowed before the machine is built, arguments, and only then: is it
emulated.

QEMU: monitor/qmp.c, qapi/qmp-dispatch.c
"""

from __future__ import annotations

import sys

from fakeqemu.error import COMMAND_NOT_FOUND, GENERIC_ERROR, NotEmulated, QemuError
from fakeqemu.monitor import registry
from fakeqemu.monitor.qmp import NO_ID
from fakeqemu.qapi.json_stream import ParseError
from fakeqemu.qapi.policy import CompatPolicy
from fakeqemu.qapi.qdict import first_in_table, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fakeqemu.monitor.qmp import MonitorQMP
    from fakeqemu.qapi.schema import ObjectType
    from fakeqemu.system.machine import Machine

# Messages nest up to 1,024 deep, and a checked value takes a few frames a level.
_RECURSION = 10_000


async def _a_coroutine() -> None:
    pass


_coroutine = _a_coroutine()
_CoroutineType = type(_coroutine)
_coroutine.close()


class Command:
    """A command of the profile, with what a call needs to know of it."""

    __slots__ = ("_arg", "_as_one", "_function", "_type", "_vm", "checked", "features", "name", "oob", "preconfig")

    def __init__(self, vm: Machine, name: str, entry: dict[str, Any]) -> None:
        self._vm = vm
        self._arg: str | None = entry["arg"]
        self._type: ObjectType | None = None
        self.name = name
        self.oob: bool = entry["oob"]
        self.preconfig: bool = entry["preconfig"]
        self.features: list[str] = entry["features"]
        self.checked = name not in registry.UNCHECKED
        self._as_one = not self.checked or name in registry.WHOLE
        self._function: Callable[..., Any] | None = None  # found when first called: a refusal needs no module

    def check_arguments(self, arguments: dict[str, Any], policy: CompatPolicy) -> dict[str, Any]:
        """The arguments as the function takes them; raises QemuError."""
        if not self.checked:
            return arguments
        if self._arg is None:
            if arguments:
                raise QemuError(f"Parameter '{first_in_table(arguments, ())}' is unexpected")
            return arguments
        if self._type is None:
            from fakeqemu.qapi.schema import schema_of

            self._type = schema_of(self._vm.profile).type(self._arg)
        from fakeqemu.qapi.visitor import QObjectInputVisitor

        return QObjectInputVisitor(policy).visit_arguments(self._type, arguments)

    def call(self, arguments: dict[str, Any]) -> Any:
        """What the function returns: a value, or a coroutine of a command that waits."""
        function = self._function
        if function is None:
            function = self._function = registry.find(self.name)
            if function is None:
                raise NotEmulated(f"The command {self.name} is not emulated")
        if self._as_one:
            return function(self._vm, arguments)
        if not arguments:
            return function(self._vm)
        name_of = registry.parameter_name
        return function(self._vm, **{name_of(key): value for key, value in arguments.items()})


class Dispatcher:
    """The dispatcher of one machine."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.monitors: list[MonitorQMP] = []
        self.policy = CompatPolicy()
        #: the monitor whose command is being called; for commands that want its descriptors or capabilities
        self.current: MonitorQMP | None = None
        #: commands asked for that have no emulation, with how often
        self.not_emulated: dict[str, int] = {}
        #: check what commands return against the schema (tests do): a mismatch is a bug
        self.check_replies = False
        self._commands: dict[str, Command] = {}
        self._busy = False  # an in-band command is waiting
        self._running = False  # the loop of run() is on the stack
        self._batches = 0
        self._unflushed: list[MonitorQMP] = []
        if sys.getrecursionlimit() < _RECURSION:
            sys.setrecursionlimit(_RECURSION)

    # --- monitors -------------------------------------------------------------------------------------

    def add_monitor(self, monitor: MonitorQMP) -> None:
        self.monitors.append(monitor)

    def remove_monitor(self, monitor: MonitorQMP) -> None:
        self.monitors.remove(monitor)

    def begin_batch(self) -> None:
        """Hold back what monitors write until the matching `end_batch`."""
        self._batches += 1

    def end_batch(self) -> None:
        self._batches -= 1
        if not self._batches and self._unflushed:
            monitors, self._unflushed = self._unflushed, []
            for monitor in monitors:
                monitor.flush()

    def defer_flush(self, monitor: MonitorQMP) -> bool:
        """Whether a monitor is to hold back what it writes; it is then flushed at the end of the batch."""
        if not self._batches:
            return False
        if monitor not in self._unflushed:
            self._unflushed.append(monitor)
        return True

    # --- running --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run queued requests until there is none, or one has to wait."""
        if self._running or self._busy:
            return
        self._running = True
        self.begin_batch()
        try:
            while not self._busy:
                monitor = self._take_turn()
                if monitor is None:
                    break
                self._run_next_of(monitor)
        finally:
            self._running = False
            self.end_batch()

    def _take_turn(self) -> MonitorQMP | None:
        """The first monitor with a request; it goes to the end of the line."""
        for monitor in self.monitors:
            if monitor.queue:
                if len(self.monitors) > 1:
                    self.monitors.remove(monitor)
                    self.monitors.append(monitor)
                return monitor
        return None

    def _run_next_of(self, monitor: MonitorQMP) -> None:
        message = monitor.queue.pop(0)
        oob = monitor.oob_enabled
        if message.__class__ is ParseError:
            monitor.reply_error(GENERIC_ERROR, message.desc)
        elif self._vm.bql.try_acquire():
            if self._run(monitor, message):
                self._vm.bql.release()
            else:
                # The command waits. Without OOB its monitor reads on when it is answered.
                if oob:
                    monitor.resume()
                return
        else:
            self._busy = True
            self._vm.host.start(self._run_with_bql(monitor, message, oob), "qmp-dispatcher")
            if oob:
                monitor.resume()
            return
        monitor.resume()

    def _run(self, monitor: MonitorQMP, message: Any) -> bool:
        """Run one in-band request with the BQL held; says whether it is answered, else a task will do that."""
        waits = self._call(monitor, message, False)
        if waits is None:
            return True
        self._busy = True
        task = self._vm.host.start(self._finish(monitor, message, waits), "qmp-dispatcher")
        if task.done:
            self._busy = False
            return True
        task.add_done_callback(self._command_ended(monitor, monitor.oob_enabled))
        return False

    async def _run_with_bql(self, monitor: MonitorQMP, message: Any, oob: bool) -> None:
        """As `_run_next_of`, when somebody else has the BQL."""
        await self._vm.bql.acquire()
        try:
            waits = self._call(monitor, message, False)
            if waits is not None:
                await self._finish(monitor, message, waits)
        finally:
            self._command_ended(monitor, oob)()

    async def _finish(self, monitor: MonitorQMP, message: dict[str, Any], waits: Coroutine[Any, Any, Any]) -> None:
        """Wait for a command and answer it."""
        try:
            result = await waits
        except Exception as error:
            self._reply_failure(monitor, message, error)
        else:
            self._reply(monitor, message, result)

    def _command_ended(self, monitor: MonitorQMP, oob: bool) -> Callable[[], None]:
        def ended() -> None:
            self._vm.bql.release()
            self._busy = False
            self.begin_batch()
            try:
                if not oob:  # else it was resumed when the command began
                    monitor.resume()
                self.run()
            finally:
                self.end_batch()

        return ended

    def run_oob(self, monitor: MonitorQMP, message: dict[str, Any]) -> None:
        """Run an out-of-band request at once, whatever else is going on."""
        waits = self._call(monitor, message, True)
        if waits is not None:
            self._vm.host.start(self._finish(monitor, message, waits), "mon_iothread")

    # --- one request ----------------------------------------------------------------------------------

    def _call(self, monitor: MonitorQMP, message: Any, oob: bool) -> Coroutine[Any, Any, Any] | None:
        """Check a request and call its function; answers it, or returns the coroutine to wait for."""
        before = self.current
        self.current = monitor
        try:
            command, arguments = self._checked(monitor, message, oob)
            answer = self._vm.faults.answer
            result = command.call(arguments) if answer is None else answer(command, arguments)
        except Exception as error:
            self._reply_failure(monitor, message, error)
            return None
        finally:
            self.current = before
        if result.__class__ is _CoroutineType:
            return result
        self._reply(monitor, message, result)
        return None

    def _checked(self, monitor: MonitorQMP, message: Any, oob: bool) -> tuple[Command, dict[str, Any]]:
        """The command of a request and its arguments; raises QemuError for the first thing that is wrong."""
        vm = self._vm
        name, arguments = envelope(message, monitor.oob_enabled)
        if not monitor.negotiated and name != "qmp_capabilities":
            raise QemuError("Expecting capabilities negotiation with 'qmp_capabilities'", COMMAND_NOT_FOUND)
        command = self.command(name)
        if command is None:
            raise QemuError(f"The command {name} has not been found", COMMAND_NOT_FOUND)
        if command.features:
            self.policy.check_input(command.features, "command", name)
        if oob:
            if not command.oob:
                raise QemuError(f"The command {name} does not support OOB")
            vm.trace("monitor_qmp_cmd_out_of_band", id=message.get("id"), command=name)
        else:
            vm.trace("monitor_qmp_cmd_in_band", id=message.get("id"), command=name)
        if vm.phase == "preconfig" and not command.preconfig:
            raise QemuError(f"The command '{name}' is permitted only after machine initialization has completed")
        return command, command.check_arguments(arguments, self.policy)

    def command(self, name: str) -> Command | None:
        """A command of the profile; None if this QEMU has none of that name."""
        command = self._commands.get(name)
        if command is None:
            entry = None if "\n" in name or "\t" in name else self._vm.profile.command(name)
            if entry is None:
                return None
            command = self._commands[name] = Command(self._vm, name, entry)
        return command

    def _reply(self, monitor: MonitorQMP, message: dict[str, Any], result: Any) -> None:
        try:
            if self.policy.hidden or self.check_replies:
                result = self._judged(message, result)
            monitor.reply(result, message.get("id", NO_ID))
        except Exception as error:  # of the wrong shape, or no JSON at all
            self._reply_failure(monitor, message, error)

    def _judged(self, message: dict[str, Any], result: Any) -> Any:
        from fakeqemu.qapi.schema import schema_of

        type_ = schema_of(self._vm.profile).returns(message.get("execute") or message["exec-oob"])
        if self.check_replies:
            from fakeqemu.qapi.reply_check import check_reply

            check_reply(self._vm, type_, result)
        return self.policy.strip(type_, result) if self.policy.hidden else result

    def _reply_failure(self, monitor: MonitorQMP, message: Any, error: Exception) -> None:
        request_id = message.get("id", NO_ID) if message.__class__ is dict else NO_ID
        if not isinstance(error, QemuError):
            self._vm.report_bug(error, f"QMP command {message.get('execute') or message.get('exec-oob')}")
            monitor.reply_error(GENERIC_ERROR, f"internal error: {error.__class__.__name__}: {error}", request_id)
            return
        if isinstance(error, NotEmulated):
            self._count_not_emulated(message.get("execute") or message.get("exec-oob"), error)
        monitor.reply_error(error.cls, error.desc, request_id)

    def _count_not_emulated(self, name: str, error: NotEmulated) -> None:
        self.not_emulated[name] = self.not_emulated.get(name, 0) + 1
        self._vm.trace("fake_not_emulated", command=name, desc=error.desc)


def envelope(message: Any, oob_enabled: bool) -> tuple[str, dict[str, Any]]:
    """The command and the arguments of a request; raises QemuError for a member that should not be as it is."""
    if message.__class__ is not dict:
        raise QemuError("QMP input must be a JSON object")
    name = message.get("execute")
    arguments = message.get("arguments")
    members = 1 + ("id" in message)
    if arguments.__class__ is dict:
        members += 1
    if name.__class__ is str and len(message) == members:
        return name, arguments or {}
    return _unusual_envelope(message, oob_enabled)


def _unusual_envelope(message: dict[str, Any], oob_enabled: bool) -> tuple[str, dict[str, Any]]:
    """As `envelope`, member by member in the order of QEMU's hash table."""
    found = ""
    for key, value in items(message):
        if key == "execute" or (key == "exec-oob" and oob_enabled):
            if not isinstance(value, str):
                raise QemuError(f"QMP input member '{key}' must be a string")
            if found:
                raise QemuError(f"QMP input member '{key}' clashes with '{found}'")
            found = key
        elif key == "arguments":
            if not isinstance(value, dict):
                raise QemuError("QMP input member 'arguments' must be an object")
        elif key != "id":
            raise QemuError(f"QMP input member '{key}' is unexpected")
    if not found:
        raise QemuError("QMP input lacks member 'execute'")
    return message[found], message.get("arguments", {})
