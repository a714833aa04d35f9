# SPDX-License-Identifier: MIT
"""-accel, -machine accel=: which accelerator the machine runs on, the first of the list that is there.

TCG always is. KVM is there if `-fake kvm=on` says so; the host's /dev/kvm is never looked at.

QEMU: configure_accelerators in system/vl.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qapi.cutils import NumberError, parse_bool, parse_size, parse_uint64
from fakeqemu.vl.location import StartEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.cmdline import CommandLine
    from fakeqemu.vl.opts import Opts

_SUFFIX = "-accel"
#: accelerator -> what is said of its device on a host that has none
_MISSING_DEVICE = {
    "mshv": ("Failed to open /dev/mshv: No such file or directory", "Operation not permitted"),
    "nitro": ("nitro: failed to open /dev/nitro_enclaves: No such file or directory", "No such file or directory"),
}


def configure(line: CommandLine, vm: Machine) -> None:
    """Choose the accelerator; raises QemuError and StartEnded."""
    given = line.groups.given("accel")
    reporter = line.reporter
    failed = False
    if given is None:
        if line.machine_accel is None:
            candidates = ["tcg", "kvm"]
        else:
            candidates = line.machine_accel.split(":")
        for name in candidates:
            if _exists(vm, name):
                line.groups["accel"].parse(name, reporter.at, True)
            else:
                failed = True
                reporter.report(f"invalid accelerator {name}")
    elif line.machine_accel is not None:
        raise QemuError('The -accel and "-machine accel=" options are incompatible')
    for opts in line.groups["accel"].items:
        with reporter.within(opts.location):
            if _try(line, vm, opts):
                break
        failed = True
    else:
        if not failed:
            reporter.report("no accelerator found")
        raise StartEnded(1)
    if failed:
        reporter.report(f"falling back to {opts.get('accel')}")


def _exists(vm: Machine, name: str) -> bool:
    return bool(name) and vm.profile.is_type(name + _SUFFIX)


def _try(line: CommandLine, vm: Machine, opts: Opts) -> bool:
    """Whether this accelerator can be used; says why not. Raises QemuError for a wrong property."""
    name = str(opts.get("accel"))
    if not _exists(vm, name):
        line.reporter.report(f"invalid accelerator {name}")
        return False
    for key, value in opts.values:
        if key != "accel":
            _check_property(vm, name, key, value)
    if name == "tcg":
        return True
    if name == "kvm":
        if vm.fake.get("kvm") == "on":
            vm.kvm_enabled = True
            return True
        text = "Could not access KVM kernel module: No such file or directory"
        if vm.compat.kvm_missing_is_reported:
            line.reporter.report(text)
        else:
            line.reporter.print_plain(text)
        line.reporter.report("failed to initialize kvm: No such file or directory")
        return False
    missing = _MISSING_DEVICE.get(name)
    if missing is None:
        raise NotEmulated(name)
    line.reporter.report(missing[0])
    line.reporter.report(f"failed to initialize {name}: {missing[1]}")
    return False


def _check_property(vm: Machine, name: str, key: str, value: str) -> None:
    type_name = name + _SUFFIX
    properties = vm.profile.qom_properties(type_name, machine=False)
    found = next((p for p in properties if p["name"] == key), None) if isinstance(properties, list) else None
    if found is None:
        raise QemuError(f"Property '{type_name}.{key}' not found")
    if name == "tcg" and key == "thread" and value not in ("single", "multi"):
        raise QemuError(f"Invalid 'thread' setting {value}")
    kind = found["type"]
    if kind == "bool" and parse_bool(value) is None:
        raise QemuError(f"Parameter '{key}' expects 'on' or 'off'")
    if kind in ("int", "uint32", "uint64", "uint16"):
        try:
            parse_uint64(value)
        except NumberError:
            raise QemuError(f"Parameter '{key}' expects uint64") from None
    if kind == "size":
        try:
            parse_size(value)
        except NumberError:
            raise QemuError(f"Parameter '{key}' expects size") from None
