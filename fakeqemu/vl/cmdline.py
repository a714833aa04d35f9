# SPDX-License-Identifier: MIT
"""The pass over argv: each option is looked up, its argument read and checked, and what it says remembered.

Nothing is made here: no socket, no object, no file. What an option says is checked as far as QEMU checks it at this
point; the rest is the matter of the phases in `vl`. Two passes: the first only finds unknown options, so that one at the
end of a line is reported before anything wrong at its beginning.

QEMU: qemu_init in system/vl.c, its two loops
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.vl import keyval, options
from fakeqemu.vl.groups import Groups
from fakeqemu.vl.location import Location, StartEnded
from fakeqemu.vl.opts import HelpWanted, SizeError, is_help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.vl.location import Reporter
    from fakeqemu.vl.opts import Opts

#: `-only-migratable` and its kind: option -> attribute that becomes True
_SWITCHES = {
    "S": "frozen",
    "daemonize": "daemonize",
    "only-migratable": "only_migratable",
    "preconfig": "preconfig",
}
#: options whose argument is only a group's parameters: option -> (group, whether a first value needs no key)
_GROUPED = {
    "action": ("action", False),
    "add-fd": ("add-fd", False),
    "chardev": ("chardev", True),
    "m": ("memory", True),
    "mon": ("mon", True),
    "msg": ("msg", False),
    "name": ("name", True),
    "overcommit": ("overcommit", False),
    "rtc": ("rtc", False),
    "run-with": ("run-with", False),
    "sandbox": ("sandbox", True),
}
#: groups that are trees, not parameters
_TREES = ("object", "audiodev", "machine", "smp-opts", "boot-opts")


class CommandLine:
    """What a command line says."""

    def __init__(self, profile: VersionProfile, reporter: Reporter) -> None:
        self.profile = profile
        self.reporter = reporter
        self.groups = Groups(profile)
        #: options whose deprecation was told of
        self.warned: list[str] = []
        #: -machine and everything that is sugar for it
        self.machine: dict[str, Any] = {}
        #: -machine accel=, once -machine is applied
        self.machine_accel: str | None = None
        self.frozen = False
        self.daemonize = False
        self.only_migratable = False
        self.preconfig = False
        self.user_config = True
        self.nodefaults = False
        self.nographic = False
        #: QAPI's DisplayOptions
        self.display: dict[str, Any] = {}
        self.audiodevs: list[str] = []
        self.cpu: str | None = None
        self.vga: str | None = None
        self.pid_file: str | None = None
        self.log_file: str | None = None
        self.log_mask: str | None = None
        self.uuid: bytes | None = None
        self.guest_name: str | None = None
        self.process_name: str | None = None
        #: -name debug-threads=on
        self.debug_threads = False
        #: the last -incoming that says where: "defer", a URI, or a channel (a dict)
        self.incoming: str | dict[str, Any] | None = None
        self.incoming_text = ""
        self.serials: list[tuple[str, Location]] = []
        self.parallels: list[tuple[str, Location]] = []
        self.devices: list[tuple[dict[str, Any], Location]] = []
        self.objects: list[dict[str, Any]] = []
        self.compat: dict[str, Any] = {}
        self.trace_file: str | None = None
        #: patterns of -trace and -d trace:
        self.trace_patterns: list[str] = []
        self.chroot: str | None = None
        self.user: str | None = None
        self.ids: tuple[int, int] | None = None
        self.fake_texts: list[str] = []
        #: things that some option has made its own: no default one then
        self.default_serial = True
        self.default_parallel = True
        self.default_monitor = True
        self.default_vga = True
        self.default_net = True
        self._monitor_index = 0

    # --- the passes -----------------------------------------------------------------------------------

    def parse(self, argv: list[str]) -> None:
        """Read `argv` (without the program); raises StartEnded when help was printed or something is wrong."""
        for _ in self._walk(argv):
            pass
        reporter = self.reporter
        for option, name, argument in self._walk(argv):
            if option is None:
                raise NotEmulated("disk images")
            if option.status == options.UNSUPPORTED:
                raise QemuError("Option not supported for this target")
            if option.status == options.REFUSED and not _is_none(name, argument):
                reporter.at = Location((f"-{name}",))
                raise NotEmulated("")
            self._apply(name, argument)
        reporter.at = Location()

    def _walk(self, argv: list[str]) -> Any:
        """(option, its name, its argument) of each word or two; the option is None for a disk image."""
        at = 0
        while at < len(argv):
            word = argv[at]
            at += 1
            self.reporter.at = Location((word,))
            if not word.startswith("-"):
                yield None, "", word
                continue
            name = word[2:] if word.startswith("--") else word[1:]
            option = options.find(name, self.profile)
            if option is None:
                raise QemuError("invalid option")
            argument = ""
            if option.has_arg:
                if at >= len(argv):
                    raise QemuError("requires an argument")
                argument = argv[at]
                at += 1
                self.reporter.at = Location((word, argument))
            yield option, name, argument

    def _apply(self, name: str, argument: str) -> None:
        switch = _SWITCHES.get(name)
        if switch is not None:
            setattr(self, switch, True)
            return
        handler = getattr(self, "_opt_" + name.replace("-", "_"), None)
        grouped = _GROUPED.get(name)
        if name == "mon" and self.profile.compat.mon_option_deprecated and "mon" not in self.warned:
            self.warned.append("mon")  # once, however many there are
            self.reporter.warn("'-mon' is deprecated, use '-object' with 'monitor-hmp' or 'monitor-qmp' types instead")
        if grouped is not None:
            opts = self.parse_group(grouped[0], argument, grouped[1])
            if handler is not None:
                handler(opts)
        elif handler is not None:
            handler(argument)

    def parse_group(self, group: str, text: str, implied: bool) -> Opts:
        """Read an argument into its group; help ends the start with status 1, as QEMU has it."""
        try:
            return self.groups[group].parse(text, self.reporter.at, implied, self.reporter.warn)
        except SizeError as err:
            if not self.profile.compat.negative_size_out_of_range and err.text.lstrip().startswith("-"):
                raise err.malformed() from None
            raise
        except HelpWanted:
            self.reporter.print(self.groups[group].help_text())
            raise StartEnded(1) from None

    # --- the machine ----------------------------------------------------------------------------------

    def _opt_machine(self, text: str) -> None:
        tree, wants_help = keyval.parse(text, "type")
        keyval.merge(self.machine, tree)
        if wants_help:
            from fakeqemu.vl import helptext

            raise helptext.machine(self.profile, self.reporter, self.machine.get("type"))

    _opt_M = _opt_machine

    def _machine_part(self, part: str, group: str, text: str) -> None:
        opts_list = self.groups[group]
        tree, wants_help = keyval.parse(text, opts_list.implied)
        if wants_help:
            self.reporter.print(opts_list.help_text())
            raise StartEnded(0)
        keyval.merge(self.machine, {part: tree})

    def _opt_smp(self, text: str) -> None:
        self._machine_part("smp", "smp-opts", text)

    def _opt_boot(self, text: str) -> None:
        self._machine_part("boot", "boot-opts", text)

    def _opt_enable_kvm(self, _: str) -> None:
        self.machine["accel"] = "kvm"

    def _opt_accel(self, text: str) -> None:
        try:
            accel = self.groups["accel"].parse(text, self.reporter.at, True, self.reporter.warn).get("accel")
        except QemuError as err:
            # QEMU goes on with no name after such an error, and a missing name is a call for help.
            self.reporter.error(err)
            accel = None
        if accel is None or is_help(accel):
            from fakeqemu.vl import helptext

            raise helptext.recorded(self.profile, self.reporter, "-accel help")

    def _opt_cpu(self, text: str) -> None:
        self.cpu = text

    def _opt_uuid(self, text: str) -> None:
        parts = text.split("-")
        if [len(part) for part in parts] != [8, 4, 4, 4, 12] or not all(c in "0123456789abcdefABCDEF-" for c in text):
            raise QemuError("failed to parse UUID string: wrong format")
        self.uuid = bytes.fromhex("".join(parts))

    def _opt_name(self, opts: Opts) -> None:
        self.guest_name = self.reporter.guest_name = opts.get("guest")
        self.process_name = opts.get("process")
        self.debug_threads = opts.get_bool("debug-threads")

    def _opt_incoming(self, text: str) -> None:
        from fakeqemu.vl.incoming import parse_incoming

        self.incoming_text = text
        self.incoming = parse_incoming(self.profile, text)

    def _opt_vga(self, text: str) -> None:
        self.vga = text
        self.default_vga = False

    def _opt_watchdog_action(self, text: str) -> None:
        self.groups["action"].create(None, self.reporter.at).set("watchdog", text)

    def _opt_no_reboot(self, _: str) -> None:
        self.parse_group("action", "reboot=shutdown", False)

    def _opt_no_shutdown(self, _: str) -> None:
        self.parse_group("action", "shutdown=pause", False)

    # --- display --------------------------------------------------------------------------------------

    def _opt_display(self, text: str) -> None:
        if text == "none":  # what nearly everybody writes needs no schema to be judged
            self.display = {"type": "none"}
            return
        from fakeqemu.vl.display_options import parse_display

        parse_display(self, text)

    def _opt_vnc(self, text: str) -> None:
        from fakeqemu.vl.display_options import parse_vnc

        parse_vnc(self, text)

    def _opt_audiodev(self, text: str) -> None:
        from fakeqemu.vl.display_options import parse_audiodev

        parse_audiodev(self, text)

    def _opt_nographic(self, _: str) -> None:
        self.machine["graphics"] = "off"
        self.nographic = True
        self.display = {"type": "none"}

    # --- character devices ----------------------------------------------------------------------------

    def _opt_qmp(self, text: str) -> None:
        self.add_monitor(text, "control", pretty=False)
        self.default_monitor = False

    def _opt_qmp_pretty(self, text: str) -> None:
        self.add_monitor(text, "control", pretty=True)
        self.default_monitor = False

    def _opt_monitor(self, text: str) -> None:
        self.default_monitor = False
        if not text.startswith("none"):
            self.add_monitor(text, "readline", pretty=False)

    def add_monitor(self, text: str, mode: str, *, pretty: bool) -> None:
        """A monitor on a character device in short form; raises QemuError."""
        from fakeqemu.chardev.opts import parse_compat

        if text.startswith("chardev:"):
            label = text[len("chardev:") :][:31]
        else:
            label = f"compat_monitor{self._monitor_index}"
            chardevs = self.groups["chardev"]
            opts = chardevs.create(label, self.reporter.at)
            try:
                if not parse_compat(text, opts, allow_mon=True):
                    raise QemuError(f"'{text}' is not a valid char driver")
            except QemuError as err:
                chardevs.items.remove(opts)
                # A form that is known but badly filled in is only a parse error.
                if not _known_but_malformed(text, err):
                    self.reporter.error(err)
                raise QemuError(f"parse error: {text}") from None
        monitor = self.groups["mon"].create(label, self.reporter.at)
        monitor.set("mode", mode)
        monitor.set("chardev", label)
        if mode == "control":
            monitor.set("pretty", "on" if pretty else "off")
        self._monitor_index += 1

    def _opt_mon(self, _: Opts) -> None:
        self.default_monitor = False

    def _opt_serial(self, text: str) -> None:
        self.serials.append((text, self.reporter.at))
        self.default_serial = False
        if text.startswith("mon:"):
            self.default_monitor = False

    def _opt_parallel(self, text: str) -> None:
        self.parallels.append((text, self.reporter.at))
        self.default_parallel = False
        if text.startswith("mon:"):
            self.default_monitor = False

    # --- objects, devices, globals --------------------------------------------------------------------

    def _opt_object(self, text: str) -> None:
        from fakeqemu.vl.objects import parse_object

        self.objects.append(parse_object(self, text))

    def _opt_device(self, text: str) -> None:
        if text.startswith("{"):
            from fakeqemu.vl.json_option import parse_json_option

            self.devices.append((parse_json_option(self.profile, text), self.reporter.at))
        else:
            self.groups["device"].parse(text, self.reporter.at, True, self.reporter.warn)

    def _opt_global(self, text: str) -> None:
        group = self.groups["global"]
        driver, dot, rest = text.partition(".")
        name, equals, value = rest.partition("=")
        if dot and equals and driver and name and "=" not in driver:
            opts = group.create(None, self.reporter.at)
            for key, item in (("driver", driver[:63]), ("property", name[:63]), ("value", value)):
                opts.set(key, item)
            return
        opts = self.parse_group("global", text, False)
        if not (opts.has("driver") and opts.has("property") and opts.has("value")):
            raise QemuError("options 'driver', 'property', and 'value' are required")

    def _opt_set(self, text: str) -> None:
        place, equals, value = text.partition("=")
        parts = place.split(".", 2)
        if not equals or len(parts) < 3 or not all(0 < len(part) < 64 for part in parts):
            raise QemuError(f'can\'t parse: "{text}"')
        group, id_, name = parts
        if group in _TREES:
            raise QemuError(f"-set is not supported with {group}")
        if not self.groups.exists(group):
            raise QemuError(f"There is no option group '{group}'")
        opts = self.groups[group].find(id_)
        if opts is None:
            raise QemuError(f'there is no {group} "{id_}" defined')
        opts.set(name, value)

    # --- the process ----------------------------------------------------------------------------------

    def _opt_pidfile(self, text: str) -> None:
        self.pid_file = text

    def _opt_D(self, text: str) -> None:
        self.log_file = text

    def _opt_d(self, text: str) -> None:
        self.log_mask = text

    def _opt_trace(self, text: str) -> None:
        opts = self.parse_group("trace", text, True)
        events = opts.get("enable")
        if events is not None:
            if is_help(events):
                from fakeqemu.vl import helptext

                raise helptext.trace_events(self.profile, self.reporter)
            self._trace_pattern(events)
        if opts.has("events"):
            self._trace_events_file(str(opts.get("events")))
        self.trace_file = opts.get("file", self.trace_file)

    def _trace_pattern(self, pattern: str) -> None:
        from fakeqemu.vl.log import warn_unknown

        warn_unknown(self, pattern)
        self.trace_patterns.append(pattern)

    def _trace_events_file(self, path: str) -> None:
        from fakeqemu.vl.readconfig import read_lines

        try:
            lines = read_lines(path)
        except OSError as err:
            self.reporter.at = Location(file=path)
            raise QemuError(err.strerror or "") from None
        for number, text in enumerate(lines, 1):
            pattern = text.strip()
            if pattern and not pattern.startswith("#"):
                with self.reporter.within(Location(file=path, line=number)):
                    self._trace_pattern(pattern)

    def _opt_msg(self, opts: Opts) -> None:
        self.reporter.with_timestamp = opts.get_bool("timestamp")
        self.reporter.with_guest_name = opts.get_bool("guest-name")

    def _opt_overcommit(self, opts: Opts) -> None:
        lock = opts.get("mem-lock")
        if lock is not None and self.groups["overcommit"].params["mem-lock"].type == "string":
            if lock not in ("on", "off", "on-fault"):
                raise QemuError("parameter 'mem-lock' expects one of 'on', 'off', 'on-fault'")

    def _opt_run_with(self, opts: Opts) -> None:
        from fakeqemu.vl.runwith import find_user

        self.chroot = opts.get("chroot", self.chroot)
        user = opts.get("user")
        if user is not None:
            self.ids = find_user(user)
            if self.ids is None:
                # QEMU names the whole argument, not the user.
                text = self.reporter.at.words[-1]
                raise QemuError(f'User "{text}" doesn\'t exist (and is not <uid>:<gid>)')
            self.user = user

    def _opt_compat(self, text: str) -> None:
        self.compat = self._visit_entity("CompatPolicy", text, None)

    def _opt_seed(self, text: str) -> None:
        from fakeqemu.qapi.cutils import NumberError, parse_uint64

        try:
            parse_uint64(text)
        except NumberError:
            raise QemuError(f"Invalid seed number: {text}") from None

    def _opt_L(self, text: str) -> None:
        if is_help(text):
            raise StartEnded(0)  # there are no folders to list

    def _opt_readconfig(self, text: str) -> None:
        from fakeqemu.vl.readconfig import read_config

        read_config(self, text)

    def _opt_nodefaults(self, _: str) -> None:
        self.nodefaults = True

    def _opt_no_user_config(self, _: str) -> None:
        self.user_config = False

    def _opt_net(self, _: str) -> None:
        self.default_net = False

    _opt_nic = _opt_net

    def _opt_h(self, _: str) -> None:
        from fakeqemu.vl import helptext

        raise helptext.usage(self.profile, self.reporter)

    _opt_help = _opt_h

    def _opt_version(self, _: str) -> None:
        from fakeqemu.vl import helptext

        raise helptext.version(self.profile, self.reporter)

    def _visit_entity(self, name: str, text: str, implied: str | None) -> dict[str, Any]:
        from fakeqemu.vl.json_option import visit_option

        return visit_option(self.profile, name, text, implied)


def _is_none(name: str, argument: str) -> bool:
    """`-net none` and `-nic none` ask for nothing, which is what there is."""
    return name in ("net", "nic") and argument == "none"


def _known_but_malformed(text: str, error: QemuError) -> bool:
    return error.desc.endswith("is not a valid char driver") and text.startswith(
        ("tcp:", "telnet:", "tn3270:", "websocket:", "udp:", "vc")
    )
