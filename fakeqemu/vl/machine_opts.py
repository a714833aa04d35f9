# SPDX-License-Identifier: MIT
"""What ends as properties of the machine: -machine, -m, -smp, -boot; and the checks of -rtc, -vga and -display.

-machine and its sugar make one tree of strings. Some keys are no properties (accel, memory-backend, ...) and are taken out;
the rest is set on /machine in the order of QEMU's hash table, each text read as the property's type.

QEMU: qemu_apply_machine_options and parse_memory_options in system/vl.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qapi.cutils import NumberError, parse_bool, parse_int64, parse_size
from fakeqemu.qapi.qdict import ordered
from fakeqemu.vl import keyval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.object import Object
    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.cmdline import CommandLine
    from fakeqemu.vl.groups import Groups
    from fakeqemu.vl.location import Reporter

#: sugar for accelerators, nothing that a machine knows
_ACCELERATOR_KEYS = ("igd-passthru", "kvm-shadow-mem", "kernel-irqchip")
#: properties that would make the guest do something
_NOT_EMULATED = ("append", "dtb", "dumpdtb", "initrd", "kernel", "shim", "firmware")
_INTEGERS = ("int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "uint64_t")
#: members of the structures, with their kinds; those not named here are refused by the setter
_STRUCTURES = {
    "smp": dict.fromkeys(
        ("cpus", "drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads", "maxcpus"), "integer"
    ),
    "memory": {"size": "size", "max-size": "size", "slots": "integer"},
    "boot": {"menu": "bool", "strict": "bool", "splash-time": "integer", "reboot-timeout": "integer"},
}

_VGA_NAMES = {
    "none": ("no graphic card", ""),
    "std": ("standard VGA", "VGA"),
    "cirrus": ("Cirrus VGA", "cirrus-vga"),
    "vmware": ("VMWare SVGA", "vmware-svga"),
    "virtio": ("Virtio VGA", "virtio-vga"),
    "qxl": ("QXL VGA", "qxl-vga"),
    "tcx": ("TCX framebuffer", "sun-tcx"),
    "cg3": ("CG3 framebuffer", "cgthree"),
}
#: modules of the real binary that its distribution packs apart
_VGA_PACKAGES = {"qxl": "qemu-system-modules-spice"}


def take_memory(line: CommandLine) -> None:
    """-m joins -machine's tree; raises QemuError."""
    given = line.groups.given("memory")
    tree: dict[str, Any] = {}
    if given is not None:
        opts = given.items[0]
        if opts.get_size("size", 0):
            text = str(opts.get("size"))
            # A number alone means megabytes, of old.
            tree["size"] = text + "M" if text[-1].isdigit() else text
        for key, name in (("maxmem", "max-size"), ("slots", "slots")):
            if opts.get(key) is not None:
                tree[name] = opts.get(key)
    keyval.merge(line.machine, {"memory": tree})


def apply(line: CommandLine, vm: Machine) -> None:
    """Set what -machine and its sugar say; raises QemuError."""
    tree = _dashified(line.machine)
    accel = tree.pop("accel", None)
    if isinstance(accel, str):
        line.machine_accel = accel
    for key in _ACCELERATOR_KEYS:
        tree.pop(key, None)
    board = vm.board
    assert board is not None
    memdev = tree.pop("memory-backend", None)
    if isinstance(memdev, str):
        board.memdev_id = memdev
    for key in _NOT_EMULATED:
        if key in tree:
            raise NotEmulated(f"-machine {key}=")
    for key in ordered(tree):
        set_property(board.object, key, tree[key])


def _dashified(tree: dict[str, Any]) -> dict[str, Any]:
    """Underscores in the keys of the top made dashes; raises QemuError where that gives one key twice."""
    for key in ordered(tree):
        if "_" in key:
            new_key = key.replace("_", "-")
            if new_key in tree:
                raise QemuError(f"Conflict between '{key}' and '{new_key}'")
            tree[new_key] = tree.pop(key)
    return tree


def set_property(obj: Object, name: str, value: Any) -> None:
    """Set a property from a tree of strings, as its type reads it; raises QemuError."""
    prop = obj.find_property(name)
    if prop is None:
        raise obj.not_found(name)
    members = _STRUCTURES.get(name)
    if members is not None:
        if not isinstance(value, dict):
            raise QemuError(f"Invalid parameter type for '{name}', expected: object")
        value = {
            key: _typed(members.get(key, "text"), f"{name}.{key}", item) if isinstance(item, str) else item
            for key, item in value.items()
        }
    elif isinstance(value, str):
        kind = "bool" if prop.type == "bool" else "size" if prop.type == "size" else "text"
        if prop.type in _INTEGERS:
            kind = "integer"
        value = _typed(kind, name, value)
    obj.set(name, value)


def _typed(kind: str, name: str, text: str) -> Any:
    if kind == "bool":
        value = parse_bool(text)
        if value is None:
            raise QemuError(f"Parameter '{name}' expects 'on' or 'off'")
        return value
    try:
        if kind == "integer":
            return parse_int64(text)
        if kind == "size":
            return parse_size(text)
    except NumberError:
        raise QemuError(f"Parameter '{name}' expects {kind}") from None
    return text


def check_boot(vm: Machine) -> None:
    """Raise QemuError for times of -boot that a PC's firmware configuration has no room for."""
    board = vm.board
    assert board is not None
    if board.family == "none":
        return
    config = board.object.get("boot")
    if not 0 <= config.get("splash-time", 0) <= 0xFFFF:
        raise QemuError("splash-time is invalid,it should be a value between 0 and 65535")
    if not -1 <= config.get("reboot-timeout", 0) <= 0xFFFF:
        raise QemuError("reboot timeout is invalid,it should be a value between -1 and 65535")


# --- options that are only checked ------------------------------------------------------------------------


def check_rtc(groups: Groups) -> None:
    """Raise QemuError for values of -rtc that QEMU refuses; no guest looks at that clock."""
    given = groups.given("rtc")
    if given is None:
        return
    opts = given.items[0]
    base = opts.get("base")
    if base is not None and base not in ("utc", "localtime") and not _is_datetime(base):
        raise QemuError("invalid datetime format", hint="valid formats: '2006-06-17T16:01:21' or '2006-06-17'")
    for key, words in (("clock", ("host", "rt", "vm")), ("driftfix", ("slew", "none"))):
        value = opts.get(key)
        if value is not None and value not in words:
            raise QemuError(f"invalid option value '{value}'")


def _is_datetime(text: str) -> bool:
    date, t, time = text.partition("T")
    parts = date.split("-")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return False
    if not t:
        return True
    clock = time.split(":")
    return len(clock) == 3 and all(part.isdigit() for part in clock)


def check_vga(line: CommandLine, reporter: Reporter) -> None:
    """Raise QemuError unless there is such a display adapter."""
    text = line.vga
    assert text is not None
    if text == "help":
        from fakeqemu.vl import helptext

        raise helptext.recorded(line.profile, reporter, "-vga help")
    name = next((name for name in _VGA_NAMES if text.startswith(name)), None)
    if name is None:
        raise QemuError(f"unknown vga type: {text}")
    human, type_name = _VGA_NAMES[name]
    if type_name and not line.profile.is_type(type_name):
        package = _VGA_PACKAGES.get(name)
        hint = f". Perhaps you want to install {package} package?" if package else ""
        raise QemuError(f"{human} not available{hint}")
    rest = text[len(name) :]
    while rest:
        for known in (",retrace=dumb", ",retrace=precise"):
            if rest.startswith(known):
                rest = rest[len(known) :]
                break
        else:
            raise QemuError(f"unknown vga type: {text}")


def adapter_type(text: str) -> str:
    """The type of the display adapter that -vga asks for, which `check_vga` has found good; "" for none."""
    return next(type_name for name, (_, type_name) in _VGA_NAMES.items() if text.startswith(name))


def check_display(line: CommandLine) -> None:
    """Raise NotEmulated for a display that is one, QemuError for options that do not go together."""
    display = line.display
    kind = display.get("type", "none")
    if kind not in ("none", "default"):
        raise NotEmulated(f"-display {kind}")
    if "window-close" in display:
        line.reporter.report("window-close is only valid for GTK and SDL, ignoring option")
    if display.get("gl", "off") != "off":
        raise QemuError(f"OpenGL is not supported by display backend '{kind}'")
