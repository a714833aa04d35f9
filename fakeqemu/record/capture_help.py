# SPDX-License-Identifier: MIT
"""What a QEMU prints of itself on its command line: help texts, options, trace events.

The help of one device type is printed by the human monitor too, in the same words; there it costs no process.

QEMU: system/vl.c, qemu-options.hx, system/qdev-monitor.c
"""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.record.capture_vm import ACCEL, PROGRAM, CaptureVm, Emulator

# Appended where a machine would otherwise be made while the help is printed, or go on without end.
QUIET = ["-machine", "none", "-display", "none", "-nodefaults", *ACCEL]
# An option that prints nothing for `help` starts the machine: that long is it let run.
HELP_LIMIT_S = 3.0

ALONE = ["-help", "-version"]
HELPS = [
    "machine",
    "accel",
    "device",
    "cpu",
    "object",
    "netdev",
    "nic",
    "chardev",
    "audio",
    "audiodev",
    "vga",
    "display",
    "tpmdev",
    "trace",
    "d",
    "smp",
    "boot",
    "rtc",
    "run-with",
    "msg",
    "action",
    "plugin",
    "watchdog",
    "soundhw",
    "overcommit",
    "sandbox",
    "icount",
    "name",
    "mon",
    "m",
    "global",
    "memory",
    "numa",
    "semihosting-config",
    "smbios",
    "fw_cfg",
    "acpitable",
    "spice",
    "iscsi",
    "blockdev",
    "drive",
    "add-fd",
    "compat",
    "incoming",
    "readconfig",
    "chardev socket",
    "netdev user",
    "chardev file",
    "accel tcg",
]
TYPED = ["chardev socket", "chardev null", "netdev user", "accel tcg", "display gtk", "audiodev none", "d trace:"]

# Options of some release that -help does not list: asked as well as those that it does.
HIDDEN = [
    "h",
    "M",
    "enable-fips",
    "nodefconfig",
    "nouserconfig",
    "writeconfig",
    "qtest",
    "qtest-log",
    "tdf",
    "no-kvm",
    "no-kvm-irqchip",
    "no-kvm-pit",
    "no-kvm-pit-reinjection",
    "kvm-shadow-memory",
    "localtime",
    "startdate",
    "win2k-hack",
    "rtc-td-hack",
    "no-hpet",
    "no-acpi",
    "balloon",
    "bt",
    "clock",
    "virtioconsole",
    "chroot",
    "runas",
    "async-teardown",
    "singlestep",
    "watchdog",
    "soundhw",
    "perfmap",
    "jitdump",
    "xen-domid",
    "xen-attach",
    "xen-domid-restrict",
    "old-param",
    "semihosting",
    "semihosting-config",
    "audio-help",
    "portrait",
    "rotate",
    "prom-env",
    "tb-size",
    "sd",
    "mtdblock",
    "virtfs_synth",
    "igd-passthru",
    "trace",
]


def capture_help(emulator: Emulator, vm: CaptureVm, types: dict[str, Any], machines: list[str]) -> dict[str, Any]:
    """Command line -> stdout, stderr and status; `vm` has no machine and prints the help of device types."""
    result: dict[str, Any] = {line: emulator.run([line]) for line in ALONE}
    for name in HELPS:
        _keep(result, f"-{name} help", emulator)
    for line in TYPED:
        separator = "" if line.endswith(":") else ","
        _keep(result, f"-{line}{separator}help", emulator)
    for name in machines:
        _keep(result, f"-machine {name},help", emulator)
    for name, facts in types.items():
        if facts["abstract"]:
            continue
        if facts["device"]:
            result[f"-device {name},help"] = _monitor_help(vm, f"device_add {name},help")
        elif facts["user-creatable"]:
            _keep(result, f"-object {name},help", emulator)
    return result


def _keep(result: dict[str, Any], line: str, emulator: Emulator) -> None:
    option, _, value = line.partition(" ")
    quiet = [] if option == "-machine" else QUIET
    answer = emulator.run([option, value, *quiet], HELP_LIMIT_S)
    if answer["status"] is not None:
        result[line] = answer


def _monitor_help(vm: CaptureVm, line: str) -> dict[str, Any]:
    """What the command line prints for it, made of what the monitor prints."""
    text = vm.hmp(line).replace("\r\n", "\n")
    option, _, value = line.partition(" ")
    if re.match(r"[^\s]+ options:\n|There are no options for ", text):
        return {"stdout": text, "stderr": "", "status": 0}
    # An error goes to stderr with the option in front; asking for help succeeds all the same.
    return {"stdout": "", "stderr": f"{PROGRAM}: -{option.removesuffix('_add')} {value}: {text}", "status": 0}


def capture_options(emulator: Emulator, help_text: str, described: list[dict[str, Any]]) -> dict[str, Any]:
    """Option name -> whether it takes an argument, whether this target has it, and its parameters.

    The parameters are None unless query-command-line-options tells them.
    """
    names = re.findall(r"^ *-([\w][\w-]*)", help_text, re.MULTILINE)
    names += re.findall(r"^-[\w-]+(?:/| or )-([\w][\w-]*)", help_text, re.MULTILINE)
    parameters = {entry["option"]: entry["parameters"] for entry in described}
    result = {}
    for name in dict.fromkeys([*names, *HIDDEN, *parameters]):
        # Ends after the options are parsed, if not by the option itself.
        answer = emulator.run(["-machine", "x-nosuch", "-" + name], HELP_LIMIT_S)
        if "invalid option" in answer["stderr"]:
            continue
        result[name] = {
            "arg": "requires an argument" in answer["stderr"],
            "supported": "not supported for this target" not in answer["stderr"],
            "params": parameters.get(name),
        }
    return result
