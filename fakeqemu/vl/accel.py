# SPDX-License-Identifier: MIT
"""-accel, -machine accel=: which accelerator the machine runs on, the first of the list that is there.

TCG always is. KVM is there if `-fake kvm=on` says so; the host's /dev/kvm is never looked at. Its vCPUs have dirty rings then,
if `dirty-ring-size=` asks for them (system/dirty_ring).

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
#: what the kernel takes for the entries of a dirty ring, on a processor that has a log of 512 pages
_MIN_DIRTY_RING, _MAX_DIRTY_RING = 1024, 65536
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
            error = _setup_dirty_ring(line, vm, opts)
            if error is not None:
                line.reporter.report(f"failed to initialize kvm: {error}")
                return False
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


def _setup_dirty_ring(line: CommandLine, vm: Machine, opts: Opts) -> str | None:
    """Have KVM give each vCPU a dirty ring, if one is wanted; says what is wrong with its size, and returns the error.

    QEMU: kvm_dirty_ring_init in accel/kvm/kvm-all.c
    """
    size = parse_uint64(str(opts.get("dirty-ring-size") or 0))
    if size > _MAX_DIRTY_RING:
        line.reporter.report(
            f"KVM dirty ring size {size} too big (maximum is {_MAX_DIRTY_RING}).  Please use a smaller value."
        )
        return "Invalid argument"
    if 0 < size < _MIN_DIRTY_RING:
        line.reporter.report("Enabling of KVM dirty ring failed: Invalid argument. Suggested minimum value is 1024.")
        return "Input/output error"
    vm.dirty_ring_size = size
    return None


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
            number = parse_uint64(value)
        except NumberError:
            raise QemuError(f"Parameter '{key}' expects uint64") from None
        if kind == "uint32" and number >> 32:
            raise QemuError(f"Parameter '{key}' expects uint32_t")
        if key == "dirty-ring-size" and number & (number - 1):
            raise QemuError("dirty-ring-size must be a power of two.")
    if kind == "size":
        try:
            parse_size(value)
        except NumberError:
            raise QemuError(f"Parameter '{key}' expects size") from None
