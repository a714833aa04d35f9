# SPDX-License-Identifier: MIT
"""The human monitor: `human-monitor-command`, and the lines that it understands.

Which commands there are, what they take and their help is the profile's (`help` and `info` of the real QEMU); which of
them do something is the table below. A command that QEMU has and that has no emulation is refused as such.

A function of `info` gets the machine and the flags that were given (`["-a"]`), one of a command the machine and its
arguments by name; both return the text, with LF. What they raise as QemuError is printed with `Error: ` in front, as QEMU
does.

QEMU: monitor/hmp.c, monitor/hmp-cmds.c
"""

from __future__ import annotations

from sys import modules

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.monitor import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.system.machine import Machine

    HmpFunction = Callable[[Machine, list[str]], Any]

#: commands that are a QMP command without arguments and print nothing
_AS_QMP = (
    "cont", "migrate_cancel", "migrate_pause", "migrate_start_postcopy", "quit", "stop", "system_powerdown", "system_reset",
    "system_wakeup", "x_colo_lost_heartbeat",
)  # fmt: skip

#: `info` sub-commands written elsewhere: module and function
_ELSEWHERE = {
    "cpus": "fakeqemu.system.info:info_cpus",
    "dirty_rate": "fakeqemu.migration.qmp_cmds_dirty_rate:info_dirty_rate",
    "iothreads": "fakeqemu.system.info:info_iothreads",
    "kvm": "fakeqemu.system.info:info_kvm",
    "memdev": "fakeqemu.system.info:info_memdev",
    "memory_size_summary": "fakeqemu.system.info:info_memory_size_summary",
    "migrate": "fakeqemu.migration.hmp_cmds:info_migrate",
    "migrate_capabilities": "fakeqemu.migration.hmp_cmds:info_migrate_capabilities",
    "migrate_parameters": "fakeqemu.migration.hmp_cmds:info_migrate_parameters",
    "qtree": "fakeqemu.hw.core.qtree:info_qtree",
    "vnc": "fakeqemu.ui.hmp_cmds:info_vnc",
    "vcpu_dirty_limit": "fakeqemu.system.qmp_cmds_dirty_limit:info_vcpu_dirty_limit",
}

#: commands with arguments: what they take (see hmp_arguments; without flags that the release lacks), module and function
_WITH_ARGUMENTS = {
    "announce_self": ("interfaces:s?,id:s?", "fakeqemu.net.announce:hmp_announce_self"),
    "calc_dirty_rate": (
        "dirty_ring:-r,dirty_bitmap:-b,second:l,sample_pages_per_GB:l?",
        "fakeqemu.migration.qmp_cmds_dirty_rate:hmp_calc_dirty_rate",
    ),
    "cancel_vcpu_dirty_limit": ("cpu_index:l?", "fakeqemu.system.qmp_cmds_dirty_limit:hmp_cancel_vcpu_dirty_limit"),
    "change": ("device:B,force:-f,target:F,arg:s?,read_only:s?", "fakeqemu.ui.hmp_cmds:change"),
    "client_migrate_info": (
        "protocol:s,hostname:s,port:i?,tls_port:i?,cert_subject:s?",
        "fakeqemu.migration.hmp_actions:client_migrate_info",
    ),
    "expire_password": ("protocol:s,time:s,display:-dV", "fakeqemu.ui.hmp_cmds:expire_password"),
    "migrate": ("detach:-d,blk:-b,inc:-i,resume:-r,uri:s", "fakeqemu.migration.hmp_actions:migrate"),
    "migrate_continue": ("state:s", "fakeqemu.migration.hmp_actions:migrate_continue"),
    "migrate_incoming": ("uri:s", "fakeqemu.migration.hmp_actions:migrate_incoming"),
    "migrate_recover": ("uri:s", "fakeqemu.migration.hmp_actions:migrate_recover"),
    "migrate_set_capability": ("capability:s,state:b", "fakeqemu.migration.hmp_actions:migrate_set_capability"),
    "migrate_set_parameter": ("parameter:s,value:S", "fakeqemu.migration.hmp_actions:migrate_set_parameter"),
    "info trace-events": ("name:s?,vcpu:i?", "fakeqemu.monitor.hmp_trace:info_trace_events"),
    "log": ("items:s", "fakeqemu.monitor.hmp_trace:log"),
    "logfile": ("filename:F", "fakeqemu.monitor.hmp_trace:logfile"),
    "set_password": ("protocol:s,password:s,display:-dV,connected:s?", "fakeqemu.ui.hmp_cmds:set_password"),
    "set_vcpu_dirty_limit": (
        "dirty_rate:l,cpu_index:l?",
        "fakeqemu.system.qmp_cmds_dirty_limit:hmp_set_vcpu_dirty_limit",
    ),
    "trace-event": ("name:s,option:b,vcpu:i?", "fakeqemu.monitor.hmp_trace:trace_event"),
}


class HmpCommand:
    """A command of the profile: its names, what it takes, and its line of help."""

    __slots__ = ("help", "names", "parameters")

    def __init__(self, text: str) -> None:
        self.help = text
        head = text.partition(" -- ")[0]
        names, _, self.parameters = head.partition(" ")
        self.names = names

    @property
    def flags(self) -> list[str]:
        """The options of one letter that it takes."""
        return [word.strip("[]") for word in self.parameters.split() if word.startswith("[-")]

    @property
    def takes_only_flags(self) -> bool:
        return all(word.startswith("[-") for word in self.parameters.split())


class _Table:
    """The commands of a profile's human monitor, or of its `info`."""

    __slots__ = ("by_name", "text")

    def __init__(self, text: str, prefix: str = "") -> None:
        self.text = text
        self.by_name: dict[str, HmpCommand] = {}
        entry = ""
        for line in [*text.split("\r\n"), ""]:
            if line.startswith("\t"):  # a help text goes on
                entry += "\r\n" + line
                continue
            if entry:
                command = HmpCommand(entry[len(prefix) :])
                for name in command.names.split("|"):
                    self.by_name[name] = command
            entry = line


class _Usage(Exception):
    """What is wrong with the line, in the words that follow the command's name."""


def run_line(vm: Machine, line: str, cpu_index: int | None = None) -> Any:
    """What a line prints (LF as CR LF), or a coroutine with that where it has to wait; raises NotEmulated."""
    if cpu_index is not None and not _has_cpu(vm, cpu_index):
        raise QemuError("Parameter 'cpu-index' expects a CPU number")
    name, rest, typed = _word(line, 0)
    if not name:
        return ""
    table = _tables(vm.profile)[0]
    if name == "info":
        return _run_info(vm, line, rest, typed)
    command = table.by_name.get(name)
    if command is None:
        return f"unknown command: '{line[:typed]}'\r\n"
    first = command.names.split("|")[0]
    if first == "help":
        return _help(vm, line[rest:])
    if first in _WITH_ARGUMENTS:
        return _run_with_arguments(vm, command, line[rest:], line[:typed])
    if first not in _AS_QMP:
        raise NotEmulated(f"The human monitor command {first} is not emulated")
    try:
        _no_more(line[rest:])
    except _Usage as usage:
        return _complain(command.names, usage, line[:typed])
    function = registry.find(first) or registry.find(first.replace("_", "-"))
    if function is None:
        raise NotEmulated(f"The human monitor command {first} is not emulated")
    return _printed(lambda: function(vm))


def _run_with_arguments(vm: Machine, command: HmpCommand, text: str, typed: str, of: str = "") -> Any:
    from fakeqemu.monitor.hmp_arguments import WrongArguments, parse

    takes, where = _WITH_ARGUMENTS[of + command.names.split("|")[0]]
    if not vm.compat.migration_hmp_raw_value:
        takes = takes.replace(":S", ":s")
    kept = [entry for entry in takes.split(",") if ":-" not in entry or entry.partition(":")[2][:2] in command.flags]
    try:
        arguments = parse(command.names, ",".join(kept), text)
    except WrongArguments as wrong:
        return _complain(command.names if wrong.named else "", wrong, typed)
    function = _loaded(where)
    return _printed(lambda: function(vm, **arguments))


def _run_info(vm: Machine, line: str, rest: int, typed: int) -> Any:
    tables = _tables(vm.profile)
    if line[rest : rest + 1] not in ("", " ", "\t", "\n"):
        return f"unknown command: '{line[:typed]}'\r\n"  # as in info/status
    name, rest, typed = _word(line, rest)
    if not name:
        return tables[1].text
    command = tables[1].by_name.get(name)
    if command is None:
        return f"unknown command: '{line[:typed]}'\r\n"
    if f"info {command.names}" in _WITH_ARGUMENTS:
        return _run_with_arguments(vm, command, line[rest:], line[:typed], of="info ")
    try:
        flags = _flags(command, line[rest:]) if command.takes_only_flags else []
    except _Usage as usage:
        return _complain(command.names, usage, line[:typed])
    function = _info_function(command.names.split("|")[0])
    return _printed(lambda: function(vm, flags))


def _word(line: str, at: int) -> tuple[str, int, int]:
    """(next word, index of what follows it, the same): a word ends at white space or a slash."""
    while at < len(line) and line[at].isspace():
        at += 1
    end = at
    while end < len(line) and line[end] != "/" and not line[end].isspace():
        end += 1
    return line[at:end], end, end


def _flags(command: HmpCommand, text: str) -> list[str]:
    """The flags given; raises _Usage for one that the command lacks, or for anything else."""
    given: list[str] = []
    known = command.flags
    text = text.lstrip()
    while known and text.startswith("-") and len(given) < len(known):
        flag = text[:2]
        if flag not in known:
            raise _Usage(f"unsupported option {flag}")
        given.append(flag)
        text = text[2:]
        if text and not text[0].isspace():
            break
        text = text.lstrip()
    _no_more(text)
    return given


def _no_more(text: str) -> None:
    if text.strip():
        raise _Usage("extraneous characters at the end of line")


def _complain(names: str, what: Exception, typed: str) -> str:
    prefix = f"{names}: " if names else ""
    return f'{prefix}{what}\r\nTry "help {typed}" for more information\r\n'


def _help(vm: Machine, text: str) -> str:
    commands, infos = _tables(vm.profile)
    words = text.split()
    if not words:
        return commands.text
    if words[0] == "info":
        if len(words) == 1:
            return infos.text
        found, prefix = infos.by_name.get(words[1]), "info "
        asked = "info " + words[1]
    else:
        special: str | None = vm.profile.get("hmp", "help/" + words[0], None)
        if special is not None:
            return special
        found, prefix, asked = commands.by_name.get(words[0]), "", words[0]
    return f"unknown command: '{asked}'\r\n" if found is None else f"{prefix}{found.help}\r\n"


# --- functions --------------------------------------------------------------------------------------------


def _info_function(name: str) -> HmpFunction:
    here = _HERE.get(name)
    if here is not None:
        return here
    where = _ELSEWHERE.get(name)
    if where is None:
        raise NotEmulated(f"The human monitor command info {name} is not emulated")
    return _loaded(where)


def _loaded(where: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, _, function = where.partition(":")
    if module not in modules:
        __import__(module)
    return getattr(modules[module], function)  # type: ignore[no-any-return]


def _printed(call: Callable[[], Any]) -> Any:
    """The text of a function, its error as QEMU prints it; a coroutine if the function waits."""
    try:
        result = call()
    except NotEmulated:
        raise
    except QemuError as error:
        return _error_text(error)
    return result_later(result) if hasattr(result, "send") else _crlf(result)


async def result_later(waits: Coroutine[Any, Any, Any]) -> str:
    """The text of a function that waits."""
    try:
        return _crlf(await waits)
    except NotEmulated:
        raise
    except QemuError as error:
        return _error_text(error)


def _crlf(text: Any) -> str:
    return text.replace("\n", "\r\n") if isinstance(text, str) else ""


def _error_text(error: QemuError) -> str:
    hint = f"{error.hint}\n" if error.hint else ""
    return _crlf(f"Error: {error.desc}\n{hint}")


def _info_status(vm: Machine, _flags: list[str]) -> str:
    state = vm.runstate.state
    if state == "running":
        return "VM status: running\n"
    return "VM status: paused\n" if state == "paused" else f"VM status: paused ({state})\n"


def _info_version(vm: Machine, _flags: list[str]) -> str:
    major, minor, micro = vm.profile.version
    return f"{major}.{minor}.{micro}{vm.profile.package}\n"


def _info_name(vm: Machine, _flags: list[str]) -> str:
    return "" if vm.name is None else f"{vm.name}\n"


def _info_uuid(vm: Machine, _flags: list[str]) -> str:
    text = (vm.uuid or bytes(16)).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}\n"


_HERE: dict[str, HmpFunction] = {
    "name": _info_name,
    "status": _info_status,
    "uuid": _info_uuid,
    "version": _info_version,
}


def _has_cpu(vm: Machine, index: int) -> bool:
    function = registry.find("query-cpus-fast")
    return function is not None and any(cpu["cpu-index"] == index for cpu in function(vm))


_parsed: dict[int, tuple[_Table, _Table]] = {}


def _tables(profile: VersionProfile) -> tuple[_Table, _Table]:
    tables = _parsed.get(id(profile))
    if tables is None:
        commands = _Table(profile.get("hmp", "none/help"))
        infos = _Table(profile.get("hmp", "none/info"), "info ")
        tables = _parsed[id(profile)] = (commands, infos)
    return tables
