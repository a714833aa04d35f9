# SPDX-License-Identifier: MIT
"""What `help` prints: texts that the profile recorded of the real QEMU.

QEMU computes most of them from its types; the capture asks every one, so they are data here.

QEMU: system/vl.c, system/qdev-monitor.c, qom/object_interfaces.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.vl.location import StartEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.vl.location import Reporter
    from fakeqemu.vl.opts import Opts

NOT_AFFILIATED = "This is fakeqemu, a mock of QEMU for testing its clients; not affiliated with the QEMU project."


def recorded(profile: VersionProfile, reporter: Reporter, key: str) -> StartEnded:
    """Print a recorded text; what is returned is to be raised. NotEmulated when the profile has none."""
    entry = profile.get("help", key, None)
    if entry is None:
        raise NotEmulated(f"help of {key}")
    reporter.print(entry["stdout"])
    if entry["stderr"]:
        reporter.print_plain(entry["stderr"].rstrip("\n").replace("qemu-system-x86_64: ", f"{reporter.program}: "))
    return StartEnded(entry["status"] or 0)


def version(profile: VersionProfile, reporter: Reporter) -> StartEnded:
    """-version: the first line as the real QEMU has it, the second says what this is."""
    reporter.print(f"{profile.version_line}\n{NOT_AFFILIATED}\n")
    return StartEnded(0)


def usage(profile: VersionProfile, reporter: Reporter) -> StartEnded:
    """-help: the recorded text, with our second line and our option."""
    entry = profile.get("help", "-help", None)
    if entry is None:
        raise NotEmulated("help of -help")
    lines = entry["stdout"].split("\n")
    lines[0:2] = [profile.version_line, NOT_AFFILIATED]
    text = "\n".join(lines).replace("usage: qemu-system-x86_64 ", f"usage: {reporter.program} ")
    ours = "-fake key=value[,key=value...]\n                settings of fakeqemu (see `fakeqemu options`)\n"
    at = text.find("\nDuring emulation")
    reporter.print(text[: at + 1] + ours + text[at:] if at > 0 else text + ours)
    return StartEnded(0)


def machine(profile: VersionProfile, reporter: Reporter, type_name: str | None) -> StartEnded:
    """`-machine help`, or `-machine TYPE,help` when a known type was named before."""
    if type_name is not None:
        name = profile.get("machines", f"alias:{type_name}", type_name)
        if profile.has("machines", name):
            return recorded(profile, reporter, f"-machine {name},help")
    return recorded(profile, reporter, "-machine help")


def object_type(profile: VersionProfile, reporter: Reporter, type_name: str) -> StartEnded:
    """`-object TYPE,help`"""
    return recorded(profile, reporter, f"-object {type_name},help")


def device(profile: VersionProfile, reporter: Reporter, opts: Opts) -> bool:
    """`-device help`, `-device TYPE,help`: whether something was printed. Never raises: a wrong type ends with status 0."""
    driver = opts.get("driver")
    if driver in ("help", "?"):
        recorded(profile, reporter, "-device help")
        return True
    if driver is None or not any(name in ("help", "?") for name, _ in opts.values):
        return False
    with reporter.within(opts.location):
        try:
            recorded(profile, reporter, f"-device {driver},help")
        except QemuError:
            reporter.report(f"Device '{driver}' not found")
    return True


def trace_events(profile: VersionProfile, reporter: Reporter) -> StartEnded:
    """`-trace help`: every trace event of the real QEMU."""
    if profile.has("help", "-trace help"):
        return recorded(profile, reporter, "-trace help")
    reporter.print("".join(f"{name}\n" for name in profile.keys("trace-events")))
    return StartEnded(0)
