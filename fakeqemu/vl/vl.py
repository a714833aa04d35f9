# SPDX-License-Identifier: MIT
"""The phases of a start: from what the command line says to a machine that answers.

    options affecting everything (name, sandbox, actions, descriptors, log)  ── help ── daemonize, pid file ── trace
    machine object ── default devices ── early objects ── character devices ── machine properties ── accelerator
    late objects ── monitors, serial ports ── CPU model ── memory
    board ── devices ── checks ── incoming, or the guest starts          (after x-exit-preconfig, with -preconfig)

Which error comes first, and what is left behind (a socket that was bound stays), is behaviour that tools see; hence the
order is QEMU's. Each phase is one method of `Start`.

QEMU: qemu_init and qmp_x_exit_preconfig in system/vl.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.system import board as boards
from fakeqemu.system.runstate import INMIGRATE
from fakeqemu.vl import accel, machine_opts
from fakeqemu.vl.default_devices import displaced, omit, take_ports
from fakeqemu.vl.location import NOWHERE, Location, StartEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any

    from fakeqemu.chardev.char import Chardev
    from fakeqemu.io.process import Process
    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.cmdline import CommandLine
    from fakeqemu.vl.location import Reporter
    from fakeqemu.vl.opts import Opts

MAX_PARALLEL_PORTS = 3


class Start:
    """One start. `process` is None for a machine inside somebody else's process."""

    def __init__(self, line: CommandLine, vm: Machine, process: Process | None) -> None:
        self.line = line
        self.vm = vm
        self.process = process
        self.reporter = line.reporter
        #: what the board's serial and parallel ports are to use
        self._ports: list[Chardev] = []
        self._port_labels: dict[str, list[tuple[int, str]]] = {"serial": [], "parallel": []}

    def run(self) -> None:
        """All phases; raises QemuError (to be reported at the reporter's place) and StartEnded."""
        self._validate()
        self._early_options()
        self._help_options()
        self._become_daemon()
        self._init_trace()
        machine_opts.check_rtc(self.line.groups)
        machine_opts.take_memory(self.line)
        self._create_machine()
        self._default_devices()
        self._create_objects(early=True)
        self._create_chardevs()
        machine_opts.apply(self.line, self.vm)
        accel.configure(self.line, self.vm)
        self._board.warn_if_deprecated()
        self._create_objects(early=False)
        self._init_audio()
        self._create_frontends()
        self._init_migration()
        if self.line.cpu is not None:
            self._board.set_cpu(self.line.cpu)
        self._board.resolve_memdev()
        if self.line.preconfig:
            self.vm.complete_startup = self.complete
        else:
            self.complete()
        self._init_displays()
        self.reporter.at = NOWHERE

    def _refusing(self, option: str) -> _Refusing:
        """What is found to be not emulated inside is said of this option."""
        return _Refusing(self.reporter, option)

    @property
    def _board(self) -> boards.Board:
        assert self.vm.board is not None
        return self.vm.board

    # --- before the fork ------------------------------------------------------------------------------

    def _validate(self) -> None:
        line = self.line
        if line.incoming is not None and line.preconfig and line.incoming != "defer":
            raise QemuError("'preconfig' supports '-incoming defer' only")

    def _early_options(self) -> None:
        line, vm = self.line, self.vm
        vm.name = line.guest_name
        vm.uuid = line.uuid
        vm.only_migratable = line.only_migratable
        vm.dispatcher.policy.set(line.compat)
        if line.groups.given("sandbox"):
            self._check_sandbox()
        if line.groups.given("action"):
            self._take_actions()
        if line.groups.given("add-fd"):
            from fakeqemu.vl.add_fd import take_descriptors

            take_descriptors(line, vm)
        if line.log_file is not None or line.log_mask is not None:
            from fakeqemu.vl.log import open_log

            open_log(line, vm)

    def _check_sandbox(self) -> None:
        from fakeqemu.vl.log import check_sandbox

        for opts in self.line.groups["sandbox"].items:
            with self.reporter.within(opts.location):
                check_sandbox(opts)

    def _take_actions(self) -> None:
        from fakeqemu.qapi.schema import schema_of
        from fakeqemu.qapi.visitor import QObjectInputVisitor

        type_ = schema_of(self.vm.profile).arguments("set-action")
        for opts in self.line.groups["action"].items:
            with self.reporter.within(opts.location):
                given = QObjectInputVisitor().visit_arguments(type_, dict(opts.values))
            self.vm.actions.update(given)

    def _help_options(self) -> None:
        line = self.line
        if line.cpu in ("help", "?"):
            from fakeqemu.vl import helptext

            raise helptext.recorded(line.profile, self.reporter, "-cpu help")
        devices = line.groups.given("device")
        for opts in devices.items if devices is not None else ():
            from fakeqemu.vl import helptext

            if helptext.device(line.profile, self.reporter, opts):
                raise StartEnded(0)

    def _become_daemon(self) -> None:
        line, process = self.line, self.process
        if process is None:
            return
        if line.chroot is not None:
            process.run_with_chroot(line.chroot)
        if line.user is not None:
            process.run_with_user(line.user)
        if line.daemonize:
            process.daemonize()
            self.vm.chardevs.can_use_stdio = False
        if line.pid_file is not None:
            process.write_pidfile(line.pid_file)

    def _init_trace(self) -> None:
        if self.line.trace_file is not None or self.line.trace_patterns:
            from fakeqemu.vl.log import start_tracing

            start_tracing(self.line, self.vm)

    # --- the machine and its back ends ----------------------------------------------------------------

    def _create_machine(self) -> None:
        line = self.line
        name = line.machine.pop("type", None)
        with self._refusing("-machine"):
            boards.create_board(self.vm, name, nodefaults=line.nodefaults)
        if line.incoming is not None:
            self.vm.runstate.set(INMIGRATE)
        self.vm.runstate.autostart = not line.frozen

    def _default_devices(self) -> None:
        """What the user has not taken in hand: monitor, serial and parallel port, display adapter."""
        line, board = self.line, self._board
        has_ports = board.family in ("pc", "q35")
        defaults = not line.nodefaults
        serial = line.default_serial and defaults and has_ports and not displaced(line, "serial")
        parallel = line.default_parallel and defaults and has_ports and not displaced(line, "parallel")
        monitor = line.default_monitor and defaults
        machine_opts.check_display(line)
        self._select_vga()
        if line.nographic:
            if line.daemonize and (serial or parallel or monitor):
                raise QemuError("-nographic cannot be used with -daemonize")
            if parallel:
                line.parallels.append(("null", NOWHERE))
            if serial and monitor:
                line.serials.append(("mon:stdio", NOWHERE))
            elif serial:
                line.serials.append(("stdio", NOWHERE))
            elif monitor:
                line.add_monitor("stdio", "readline", pretty=False)
        else:
            if serial:
                line.serials.append(("vc:80Cx24C", NOWHERE))
            if parallel:
                line.parallels.append(("vc:80Cx24C", NOWHERE))
            if monitor:
                line.add_monitor("vc:80Cx24C", "readline", pretty=False)

    def _select_vga(self) -> None:
        line = self.line
        if line.vga is not None:
            machine_opts.check_vga(line, self.reporter)
        omit(line, self._board)

    def _create_objects(self, *, early: bool) -> None:
        rest = []
        for options in self.line.objects:
            from fakeqemu.vl.objects import is_early

            if is_early(options["qom-type"]) is early:
                from fakeqemu.system.user_creatable import object_add

                with self._refusing("-object"):
                    object_add(self.vm, options)
            else:
                rest.append(options)
        self.line.objects = rest

    def _create_chardevs(self) -> None:
        chardevs = self.line.groups.given("chardev")
        for opts in chardevs.items if chardevs is not None else ():
            with self.reporter.within(opts.location):
                self._create_chardev(opts)

    def _create_chardev(self, opts: Opts) -> Chardev:
        from fakeqemu.chardev.opts import new_from_opts

        if opts.get("backend") in ("help", "?"):
            from fakeqemu.vl import helptext

            raise helptext.recorded(self.line.profile, self.reporter, "-chardev help")
        return new_from_opts(self.vm, opts)

    # --- front ends -----------------------------------------------------------------------------------

    def _create_frontends(self) -> None:
        line = self.line
        monitors = line.groups.given("mon")
        for opts in monitors.items if monitors is not None else ():
            from fakeqemu.vl.monitors import new_monitor

            with self.reporter.within(opts.location):
                new_monitor(self.vm, opts)
        for index, (text, place) in enumerate(line.serials):
            if text != "none":
                with self.reporter.within(place):
                    self._port(text, index, "serial")
        index = 0
        for text, place in line.parallels:
            if text == "none":
                continue
            with self.reporter.within(place):
                if index == MAX_PARALLEL_PORTS:
                    raise QemuError("too many parallel ports")
                self._port(text, index, "parallel")
            index += 1
        take_ports(self._board, self._port_labels)

    def _port(self, text: str, index: int, kind: str) -> None:
        """The character device behind a serial or parallel port, and the monitor that shares it (`mon:`)."""
        label = f"{kind}{index}"
        if text.startswith("chardev:"):
            chardev = self.vm.chardevs.find(text[len("chardev:") :])
        else:
            chardev = self._port_chardev(text, label)
        if chardev is None:
            raise QemuError(f"could not connect {kind} device to character backend '{text}'")
        self._ports.append(chardev)
        self._port_labels[kind].append((index, chardev.label))

    def _port_chardev(self, text: str, label: str) -> Chardev | None:
        from fakeqemu.chardev.opts import parse_compat

        group = self.line.groups["chardev"]
        opts = group.create(label, self.reporter.at)
        try:
            if not parse_compat(text, opts, allow_mon=True):
                bare = text.removeprefix("mon:")
                if not bare.startswith(("tcp:", "telnet:", "tn3270:", "websocket:", "udp:", "vc:")):
                    self.reporter.report(f"'{bare}' is not a valid char driver")
                return None
            chardev = self._create_chardev(opts)
        except NotEmulated:
            raise
        except QemuError as err:
            self.reporter.error(err)
            return None
        finally:
            group.items.remove(opts)
        if opts.get_bool("mux"):
            from fakeqemu.vl import monitors

            monitors.attach(self.vm, chardev, label, "readline", pretty=False)
        return chardev

    def _init_migration(self) -> None:
        globals_ = self.line.groups.given("global")
        if globals_ is not None:
            from fakeqemu.vl import globals as globals_module

            globals_module.register(self.vm, globals_.items)
            globals_module.apply_to_migration(self.vm)

    # --- the board: now, or after x-exit-preconfig ----------------------------------------------------

    def complete(self) -> None:
        """Board, devices, and the guest: what x-exit-preconfig sets off; raises QemuError."""
        line, vm = self.line, self.vm
        self._board.init()
        if line.cpu is not None:
            from fakeqemu.vl.cpu_features import warn_of_missing

            warn_of_missing(vm, self.reporter)
        if "boot" in line.machine:
            machine_opts.check_boot(vm)
        if vm.globals:
            from fakeqemu.vl.globals import apply_to_board

            apply_to_board(vm)
        self._connect_ports()
        vm.phase = "initialized"
        self._create_devices()
        self._creation_done()
        vm.phase = "ready"
        vm.complete_startup = None
        if line.incoming is not None:
            if line.incoming != "defer":
                self._listen_for_guest()
        elif vm.runstate.autostart:
            self._finish(vm.runstate.vm_start(), NOWHERE)

    def _init_audio(self) -> None:
        for name in self.line.audiodevs:
            if name in self.vm.audiodevs and self.vm.compat.audiodev_twice_refused:
                raise QemuError(f"attempt to add duplicate property '{name}' to object (type 'container')")
            self.vm.audiodevs.append(name)

    def _init_displays(self) -> None:
        displays = self.line.groups.given("vnc")
        if displays is not None:
            for opts in displays.items:
                with self.reporter.within(opts.location):
                    self.vm.vnc.open(displays.name_one(opts), opts)

    def _connect_ports(self) -> None:
        """The board's ports take their character devices; what comes in there is for a guest that does not run."""
        if self._board.family == "none":
            return
        for chardev in self._ports:
            chardev.claim()
            chardev.set_frontend(self._drop_input, lambda _event: None)

    def _drop_input(self, _data: bytes, fds: list[int]) -> None:
        for fd in fds:
            self.vm.fds.close(fd)

    def _create_devices(self) -> None:
        line = self.line
        given = line.groups.given("device")
        if given is None and not line.devices:
            return
        from fakeqemu.vl.qdev_monitor import device_add

        for opts in given.items if given is not None else ():
            with self.reporter.within(opts.location):
                device_add(self.vm, opts.as_dict(), from_json=False, hotplug=False)
        for options, place in line.devices:
            with self.reporter.within(place):
                device_add(self.vm, options, from_json=True, hotplug=False)

    def _creation_done(self) -> None:
        line = self.line
        if line.groups.given("global") is not None:
            from fakeqemu.vl.globals import check_used

            check_used(self.vm, self.reporter)
        if line.nodefaults or not line.default_net:
            self._warn_of_lonely_nics()
        if line.vga not in (None, "none") and self._board.family in ("none", "microvm"):
            self.reporter.warn(
                "A -vga option was passed but this machine type does not use that option; No VGA device has been created"
            )

    def _warn_of_lonely_nics(self) -> None:
        """There are no network back ends yet: every adapter is without."""
        given = self.line.groups.given("device")
        if given is None and not self.line.devices:
            return
        from fakeqemu.hw.core.inventory import canonical_type

        drivers = [(opts.get("driver"), opts.id) for opts in given.items] if given is not None else []
        drivers += [(options.get("driver"), options.get("id")) for options, _ in self.line.devices]
        counts: dict[str, int] = {}
        for word, id_ in drivers:
            driver = canonical_type(self.vm.profile, str(word))
            properties = self.vm.profile.device_properties(driver)
            if not isinstance(properties, list) or not any(entry["name"] == "netdev" for entry in properties):
                continue
            number = counts.get(driver, 0)
            counts[driver] = number + (id_ is None)
            self.reporter.warn(f"nic {id_ or f'{driver}.{number}'} has no peer")

    def _listen_for_guest(self) -> None:
        from fakeqemu.migration.qmp_cmds import qmp_migrate_incoming

        where = self.line.incoming
        try:
            if isinstance(where, dict):
                qmp_migrate_incoming(self.vm, channels=[where])
            else:
                qmp_migrate_incoming(self.vm, uri=where)
        except QemuError as err:
            raise err.prefixed(f"-incoming {self.line.incoming_text}: ") from None

    def _finish(self, coro: Coroutine[Any, Any, Any], place: Location) -> None:
        """Run `coro` until it ends, the main loop turning where it must; raises what it raises."""
        failures: list[QemuError] = []

        async def guarded() -> None:
            # Commands wait meanwhile, as they do for QEMU's main loop. (x-exit-preconfig has the lock already.)
            locked = self.vm.bql.try_acquire()
            try:
                await coro
            except QemuError as err:
                failures.append(err)
            finally:
                if locked:
                    self.vm.bql.release()

        with self.reporter.within(place):
            task = self.vm.host.start(guarded(), "vl")
            if not task.done and self.process is not None:
                self.process.run(lambda: task.done)
            if failures:
                raise failures[0]


class _Refusing:
    """Moves the place to an option when something in the block is not emulated."""

    __slots__ = ("_option", "_reporter")

    def __init__(self, reporter: Reporter, option: str) -> None:
        self._reporter = reporter
        self._option = option

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, NotEmulated):
            self._reporter.at = Location((self._option,))
