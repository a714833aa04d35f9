# SPDX-License-Identifier: MIT
"""Every option of every profile, and what becomes of it here.

    EMULATED      does what QEMU does, as far as a client can see
    ACCEPTED      read and checked, then without effect; the reason says why that may be
    REFUSED       valid for QEMU, no emulation here: the start ends with `-OPTION: not emulated`
    UNSUPPORTED   not for this target: QEMU itself refuses it

Whether a QEMU has an option at all, its profile knows (table `options`).

QEMU: qemu-options.hx
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.qapi.profile import VersionProfile

EMULATED = "emulated"
ACCEPTED = "accepted"
REFUSED = "not emulated"
UNSUPPORTED = "not for this target"


class Option:
    """One option; `reason` is for people, empty for what is emulated."""

    __slots__ = ("has_arg", "name", "reason", "status")

    def __init__(self, name: str, has_arg: bool, status: str, reason: str = "") -> None:
        self.name = name
        self.has_arg = has_arg
        self.status = status
        self.reason = reason


_FLAGS = (
    "S daemonize enable-kvm h help no-reboot no-shutdown no-user-config nodefaults nographic only-migratable preconfig "
    "version"
)
_WITH_ARGUMENT = (
    "D M accel action add-fd audiodev boot chardev compat cpu d device display fake global incoming m machine mon monitor msg "
    "name object parallel pidfile qmp qmp-pretty readconfig rtc run-with serial set smp trace uuid vga vnc watchdog-action"
)

#: -help does not list them in the form of the others
_UNLISTED = ("g", "h", "preconfig")

_NO_BLOCK = "no block layer yet"
_NO_NET = "no network back ends yet; `none` is taken"
_NO_GUEST = "no guest code runs"
_NO_SCREEN = "nothing is displayed"

#: option -> (whether it takes an argument, status, reason)
_OTHERS: dict[str, tuple[bool, str, str]] = {
    # --- accepted without effect ---
    "L": (True, ACCEPTED, "no firmware is loaded, so no folder is searched"),
    "enable-sync-profile": (False, ACCEPTED, "there are no mutexes to profile"),
    "jitdump": (False, ACCEPTED, "no code is translated"),
    "k": (True, ACCEPTED, "there is no keyboard"),
    "overcommit": (True, ACCEPTED, "guest RAM is make-believe and no vCPU spins: nothing to lock or to idle"),
    "perfmap": (False, ACCEPTED, "no code is translated"),
    "sandbox": (True, ACCEPTED, "only restricts the process itself; its arguments are checked"),
    "seed": (True, ACCEPTED, "seeds what the guest alone would see"),
    "win2k-hack": (False, ACCEPTED, "concerns a guest's disk driver only"),
    # --- without emulation ---
    "acpitable": (True, REFUSED, _NO_GUEST),
    "append": (True, REFUSED, _NO_GUEST),
    "async-teardown": (False, REFUSED, "older spelling of -run-with async-teardown=on"),
    "audio": (True, REFUSED, "no audio"),
    "audio-help": (False, REFUSED, "no audio"),
    "bios": (True, REFUSED, _NO_GUEST),
    "blockdev": (True, REFUSED, _NO_BLOCK),
    "cdrom": (True, REFUSED, _NO_BLOCK),
    "chroot": (True, REFUSED, "older spelling of -run-with chroot="),
    "debugcon": (True, REFUSED, _NO_GUEST),
    "dfilter": (True, REFUSED, "no code is translated"),
    "drive": (True, REFUSED, _NO_BLOCK),
    "dtb": (True, REFUSED, _NO_GUEST),
    "dump-vmstate": (True, REFUSED, "prints QEMU's own tables"),
    "echr": (True, REFUSED, "no terminal multiplexer"),
    "fda": (True, REFUSED, _NO_BLOCK),
    "fdb": (True, REFUSED, _NO_BLOCK),
    "fsdev": (True, REFUSED, "no file sharing"),
    "full-screen": (False, REFUSED, _NO_SCREEN),
    "fw_cfg": (True, REFUSED, _NO_GUEST),
    "gdb": (True, REFUSED, _NO_GUEST),
    "hda": (True, REFUSED, _NO_BLOCK),
    "hdb": (True, REFUSED, _NO_BLOCK),
    "hdc": (True, REFUSED, _NO_BLOCK),
    "hdd": (True, REFUSED, _NO_BLOCK),
    "icount": (True, REFUSED, _NO_GUEST),
    "initrd": (True, REFUSED, _NO_GUEST),
    "iscsi": (True, REFUSED, _NO_BLOCK),
    "kernel": (True, REFUSED, _NO_GUEST),
    "loadvm": (True, REFUSED, _NO_BLOCK),
    "mem-path": (True, REFUSED, "use -object memory-backend-file and -machine memory-backend="),
    "mem-prealloc": (False, REFUSED, "guest RAM is make-believe"),
    "mtdblock": (True, REFUSED, _NO_BLOCK),
    "net": (True, REFUSED, _NO_NET),
    "netdev": (True, REFUSED, _NO_NET),
    "nic": (True, REFUSED, _NO_NET),
    "no-acpi": (False, REFUSED, "use -machine acpi=off"),
    "no-fd-bootchk": (False, REFUSED, "use -machine fd-bootchk=off"),
    "no-hpet": (False, REFUSED, "use -machine hpet=off"),
    "numa": (True, REFUSED, "no NUMA"),
    "option-rom": (True, REFUSED, _NO_GUEST),
    "pflash": (True, REFUSED, _NO_BLOCK),
    "plugin": (True, REFUSED, _NO_GUEST),
    "portrait": (False, REFUSED, _NO_SCREEN),
    "qtest": (True, REFUSED, "QEMU's own test protocol"),
    "qtest-log": (True, REFUSED, "QEMU's own test protocol"),
    "rotate": (True, REFUSED, _NO_SCREEN),
    "runas": (True, REFUSED, "older spelling of -run-with user="),
    "s": (False, REFUSED, _NO_GUEST),
    "sd": (True, REFUSED, _NO_BLOCK),
    "shim": (True, REFUSED, _NO_GUEST),
    "singlestep": (False, REFUSED, _NO_GUEST),
    "smbios": (True, REFUSED, _NO_GUEST),
    "snapshot": (False, REFUSED, _NO_BLOCK),
    "spice": (True, REFUSED, _NO_SCREEN),
    "tpmdev": (True, REFUSED, "no TPM"),
    "usb": (False, REFUSED, "use -device for a USB controller"),
    "usbdevice": (True, REFUSED, "use -device"),
    "virtfs": (True, REFUSED, "no file sharing"),
    "xen-domid": (True, REFUSED, "no Xen"),
    # --- refused by QEMU itself ---
    "g": (True, UNSUPPORTED, ""),
    "old-param": (False, UNSUPPORTED, ""),
    "prom-env": (True, UNSUPPORTED, ""),
    "semihosting": (False, UNSUPPORTED, ""),
    "semihosting-config": (True, UNSUPPORTED, ""),
    "xen-attach": (False, UNSUPPORTED, ""),
    "xen-domid-restrict": (False, UNSUPPORTED, ""),
}

#: sub-options that are refused or accepted where the option itself is emulated: for `fakeqemu options`
SUB_OPTIONS: tuple[tuple[str, str, str], ...] = (
    ("-audiodev none", ACCEPTED, "silence; others: no audio"),
    ("-chardev udp, serial, parallel, msmouse, braille, spice*, dbus", REFUSED, "no such back end"),
    ("-chardev socket with telnet, tn3270, websocket, tls-creds", REFUSED, "plain bytes only"),
    ("-chardev vc", ACCEPTED, "a console that nobody looks at"),
    ("-d ITEM, -dfilter", ACCEPTED, "no code is translated: the log stays empty; names are checked"),
    ("-display TYPE but none and vnc", REFUSED, _NO_SCREEN),
    ("-nic none, -net none", EMULATED, ""),
    ("-rtc", ACCEPTED, "the guest alone reads that clock; its arguments are checked"),
    ("-run-with async-teardown=on", ACCEPTED, "there is no guest memory to free"),
    ("-vnc with websocket, sasl", REFUSED, "plain RFB, and RFB in TLS"),
    ("-vnc with lock-key-sync, key-delay-ms, lossy, non-adaptive", ACCEPTED, "no keyboard, no picture to compress"),
    ("-trace, -d trace:PATTERN", EMULATED, "of what happens here: other events can be named, and never come"),
)


def find(name: str, profile: VersionProfile) -> Option | None:
    """The option of this name, without its dashes; None when this QEMU has none."""
    if name == "fake":
        return Option(name, True, EMULATED)
    entry = {"arg": False} if name in _UNLISTED else profile.get("options", name, None)
    if entry is None:
        return None
    other = _OTHERS.get(name)
    if other is not None:
        return Option(name, other[0], other[1], other[2])
    if name in _WITH_ARGUMENT.split():
        return Option(name, True, EMULATED)
    if name in _FLAGS.split():
        return Option(name, False, EMULATED)
    return Option(name, bool(entry["arg"]), REFUSED, "unknown to this program")


def options_table(profile: VersionProfile) -> list[Option]:
    """All options of a profile, in the order of the alphabet."""
    names = dict.fromkeys([*_UNLISTED, "fake", *profile.keys("options")])
    found = (find(name, profile) for name in sorted(names))
    return [option for option in found if option is not None]
