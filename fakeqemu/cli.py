# SPDX-License-Identifier: MIT
"""`fakeqemu-system-x86_64`: QEMU's command line, run as a process of its own.

    argv ── settings of ours ── profile ── command line ── phases of the start ── main loop ── end

Everything that the start needs is imported here or on the way; nothing is imported that a bare start does not need.

QEMU: system/main.c
"""

from __future__ import annotations

import os
import sys

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.io.host import ProcessHost, set_comm
from fakeqemu.io.process import Process, leave_now
from fakeqemu.qapi.profile import ProfileError, VersionProfile
from fakeqemu.system.build import new_machine
from fakeqemu.vl import fake
from fakeqemu.vl.cmdline import CommandLine
from fakeqemu.vl.location import Reporter, StartEnded
from fakeqemu.vl.vl import Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from fakeqemu.system.machine import Machine


def main() -> NoReturn:
    """Run with the process' own arguments; never returns."""
    program = os.path.basename(sys.argv[0]) or "fakeqemu-system-x86_64"
    argv = sys.argv[1:]
    try:
        settings = fake.settings([os.environ.get("FAKEQEMU", ""), *fake.texts_of(argv)])
        profile = VersionProfile.load(settings.get("profile", fake.DEFAULT_PROFILE))
        host = ProcessHost(
            rate=fake.clock_rate(settings.get("clock", "real")), seed=settings.get("seed", "0"), program=program
        )
        vm = new_machine(host, profile, settings)
    except (fake.FakeError, ProfileError, ValueError) as err:
        os.write(2, f"{program}: {err}\n".encode())
        leave_now(1)
    reporter = Reporter(program, host.write_stderr, _write_stdout, host.clock.wall_ns)
    process = Process(host)
    process.at_end(lambda: vm.vnc.close() if vm.has_part("vnc") else None)
    process.at_end(lambda: vm.chardevs.close_all() if vm.has_part("chardevs") else None)
    try:
        line = start(vm, argv, reporter, process)
        if line.process_name is not None:
            set_comm(line.process_name, host.pid)
        if line.chroot is not None or line.ids is not None:
            from fakeqemu.preload import load_everything

            load_everything()
            if "host" in vm.fake:
                _ = vm.hardware  # reads its file
        process.setup_done()
    except StartEnded as ended:
        process.give_up(ended.status)
    except QemuError as err:
        report_failure(reporter, err)
        process.give_up(1)
    run(vm, process)


def run(vm: Machine, process: Process) -> NoReturn:
    """Serve until the machine is told to end."""
    ended: list[str] = []
    vm.on_shutdown.add(ended.append)

    def killed() -> None:
        # Whatever -no-shutdown says.
        vm.actions["shutdown"] = "poweroff"
        vm.request_shutdown("host-signal")

    process.on_signal = killed
    process.on_bug = vm.report_bug
    process.watch_signals()
    vm.host.when_idle(lambda: _warm_up(vm))
    process.run(lambda: bool(ended))
    process.leave(vm.exit_status)


def _warm_up(vm: Machine) -> bool:
    """In idle time load what a migration needs; not before a monitor's client has begun to speak."""
    if "fakeqemu.monitor.qmp_cmds" not in sys.modules:
        return False
    from fakeqemu.warm_up import WarmUp

    work = WarmUp(vm)
    vm.host.when_idle(work.step)
    return True


def start(vm: Machine, argv: list[str], reporter: Reporter, process: Process | None) -> CommandLine:
    """Bring a new machine to life by a command line; raises QemuError and StartEnded."""
    line = CommandLine(vm.profile, reporter)
    line.parse(argv)
    if vm.fake:
        _take_settings(vm)
    if isinstance(vm.host, ProcessHost):
        vm.host.names_threads = line.debug_threads or vm.compat.threads_named
    vm.host.log = reporter.report  # type: ignore[method-assign]  # with time and guest's name, as -msg asks
    Start(line, vm, process).run()
    return line


def report_failure(reporter: Reporter, error: QemuError) -> None:
    """Print what ended a start; what is not emulated names the option alone."""
    if isinstance(error, NotEmulated):
        words = reporter.at.words
        option = words[0].replace("--", "-", 1) if words else ""
        detail = error.desc
        if option.startswith("-"):
            text = f" {option}: not emulated" + (f": {detail}" if detail else "")
        else:
            text = f" {detail}" if detail.endswith("not emulated") else f" {detail}: not emulated"
        reporter.print_plain(f"{reporter.prefix()}{text}")
    else:
        reporter.error(error)


def _take_settings(vm: Machine) -> None:
    if any(name.startswith("guest.") for name in vm.fake):
        vm.guest.configure(vm.fake)
    if "host" in vm.fake:
        _ = vm.hardware  # a wrong file is said at once
    if "scenario" in vm.fake:
        _run_scenario(vm, vm.fake["scenario"])
    path = vm.fake.get("transcript")
    if path is not None:
        from fakeqemu.record import transcript

        try:
            transcript.attach(vm, path)
        except OSError as err:
            raise QemuError(f"-fake transcript: {path}: {err.strerror}") from None


def _run_scenario(vm: Machine, path: str) -> None:
    try:
        from fakeqemu.scenario.load import load
        from fakeqemu.scenario.runner import Runner
    except ModuleNotFoundError as err:
        raise QemuError(f"-fake scenario: {err.name} is needed and not installed (fakeqemu[files] brings it)") from None
    Runner(vm, load(path))


def _write_stdout(text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        pass


if __name__ == "__main__":
    main()
