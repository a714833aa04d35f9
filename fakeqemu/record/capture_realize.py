# SPDX-License-Identifier: MIT
"""What becomes of each device type when it is made with no property but an id.

Asked on pc, q35 and microvm without default devices, and on a q35 that has controllers of all kinds (`rich`); once
on the command line (cold) and once by device_add on a machine that stands (hot). A refusal is kept with its text; a device
that came about with its QOM subtree, its place on the PCI bus, its stanza of `info qtree` and the buses that it
brings. A QEMU that dies or hangs is an outcome too.

Most refusals of a hot plug are cheap: many are asked of one process. After a success that process is
replaced, since the slot stays taken.

QEMU: system/qdev-monitor.c, hw/core/qdev.c
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fakeqemu.record.capture_qom import capture_tree
from fakeqemu.record.capture_vm import ACCEL, PROGRAM, CaptureVm, Died, Emulator

DEVICE_ID = "dev0"
PATH = f"/machine/peripheral/{DEVICE_ID}"
LIMIT_S = 10.0
WORKERS = 2
MACHINES = {name: ["-machine", name, "-S", *ACCEL, "-nodefaults", "-m", "16"] for name in ("pc", "q35", "microvm")}
PLAIN = ("pc", "q35")

# A q35 that has a bus of each kind, for the types that find none otherwise; a port takes what is hot-plugged.
RICH = "rich"
PORT = "port0"
CONTROLLERS = [
    f"pcie-root-port,id={PORT}",
    "qemu-xhci",
    "virtio-scsi-pci",
    "virtio-serial-pci",
    "intel-hda",
    "usb-ccid",
    "sdhci-pci",
    "nvme,serial=1",
]


def devices(described: Iterable[str]) -> list[str]:
    """The words of a command line that make these devices."""
    return [word for device in described for word in ("-device", device)]


MACHINES[RICH] = [*MACHINES["q35"], *devices(CONTROLLERS)]

Outcome = dict[str, Any]
LONG = ("qom", "qtree")


def split(realize: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The outcomes without what is long (QOM subtree and stanza), and that as `TYPE/MACHINE/cold|hot` -> both.

    A start that names twenty devices asks of each whether it can be, and then for one of its eight outcomes only.
    """
    made = {}
    light: dict[str, Any] = {}
    for name, machines in realize.items():
        for machine, moments in machines.items():
            for moment, outcome in moments.items():
                rest = {key: value for key, value in outcome.items() if key not in LONG}
                light.setdefault(name, {}).setdefault(machine, {})[moment] = rest
                if outcome.get("ok"):
                    made[f"{name}/{machine}/{moment}"] = {key: outcome[key] for key in LONG}
    return light, made


class _Facts:
    """What the capture must know of types: which are buses, which go on a PCI bus."""

    def __init__(self, types: dict[str, Any]) -> None:
        self.buses = [name for name in types if _descends(types, name, "bus")]
        self.pci = [name for name in types if _descends(types, name, "pci-device")]


def capture_realize(emulator: Emulator, types: dict[str, Any]) -> dict[str, Any]:
    """Device type -> machine -> "cold" and "hot" -> outcome."""
    names = [name for name, entry in types.items() if entry["device"] and not entry["abstract"]]
    facts = _Facts(types)
    result: dict[str, Any] = {name: {machine: {} for machine in MACHINES} for name in names}
    half = (len(names) + WORKERS - 1) // WORKERS
    jobs: list[tuple[Callable[..., dict[str, Outcome]], str, str, list[str]]] = []
    for machine in MACHINES:
        for start in range(0, len(names), half):
            jobs.append((_cold, "cold", machine, names[start : start + half]))
            jobs.append((_hot, "hot", machine, names[start : start + half]))
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [
            (pool.submit(run, emulator, machine, part, facts), kind, machine) for run, kind, machine, part in jobs
        ]
        for future, kind, machine in futures:
            for name, outcome in future.result().items():
                result[name][machine][kind] = outcome
    return result


def _descends(types: dict[str, Any], name: str | None, ancestor: str) -> bool:
    while name is not None and name in types:
        if name == ancestor:
            return True
        name = types[name]["parent"]
    return False


def _cold(emulator: Emulator, machine: str, names: list[str], facts: _Facts) -> dict[str, Outcome]:
    """Each type on a command line of its own."""
    return {name: _cold_one(emulator, machine, name, facts) for name in names}


def _cold_one(emulator: Emulator, machine: str, name: str, facts: _Facts) -> Outcome:
    option = ["-device", f"{name},id={DEVICE_ID}"]
    args = [*MACHINES[machine], *option]
    try:
        vm = CaptureVm(emulator, args, LIMIT_S, LIMIT_S)
    except Died as err:
        return _refused(err, f"{PROGRAM}: {' '.join(option)}: ")
    with vm:
        try:
            return _made(vm, facts)
        except Died as err:
            return {"crash": True, "stderr": str(err)}


def _refused(err: Died, prefix: str) -> Outcome:
    if err.status is None:
        return {"hang": True, "stderr": str(err)}
    if err.status < 0:
        return {"crash": True, "signal": -err.status, "stderr": str(err)}
    lines = str(err).splitlines()
    told = next((line for line in lines if line.startswith(prefix)), lines[-1] if lines else "")
    return {"ok": False, "error": told.removeprefix(prefix), "status": err.status, "stderr": str(err)}


def _hot(emulator: Emulator, machine: str, names: list[str], facts: _Facts) -> dict[str, Outcome]:
    """Each type by device_add, in one process for as long as nothing sticks to it."""
    result: dict[str, Outcome] = {}
    vm = CaptureVm(emulator, MACHINES[machine], LIMIT_S, LIMIT_S)
    for name in names:
        try:
            # The root bus takes no plug, and a device is not sent past it by itself.
            place = {"bus": PORT} if machine == RICH and name in facts.pci else {}
            answer = vm.message("device_add", {"driver": name, "id": DEVICE_ID, **place})
            if "error" in answer:
                result[name] = {"ok": False, "error": answer["error"]["desc"], "class": answer["error"]["class"]}
                continue
            result[name] = _made(vm, facts)
        except Died as err:
            kind = "hang" if err.status is None else "crash"
            result[name] = {kind: True, "stderr": str(err)}
        vm.restart()
    vm.stop()
    return result


def _made(vm: CaptureVm, facts: _Facts) -> Outcome:
    tree = capture_tree(vm, PATH)
    outcome: Outcome = {"ok": True, "qom": vm.emulator.scrub(tree)}
    devices = [_devices(bus["devices"]) for bus in vm("query-pci")]
    for entry in (entry for found in devices for entry in found):
        if entry.get("qdev_id") == DEVICE_ID:
            outcome["pci"] = entry
    outcome["qtree"] = _stanza(vm.hmp("info qtree"))
    outcome["buses"] = [
        {"name": name, "type": value[0][6:-1]}
        for name, value in tree.items()
        if value[0].startswith("child<") and value[0][6:-1] in facts.buses
    ]
    outcome["events"] = [{"event": event["event"], "data": event.get("data")} for event in vm.events]
    words = vm.last_words()
    if words:
        outcome["stderr"] = words
    return outcome


def _devices(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for entry in listed:
        found.append(entry)
        found.extend(_devices(entry.get("pci_bridge", {}).get("devices", [])))
    return found


def _stanza(text: str) -> str:
    """The lines of `info qtree` that are of our device, moved to the left edge."""
    lines = text.replace("\r\n", "\n").splitlines()
    for at, line in enumerate(lines):
        if line.strip().startswith("dev: ") and f'id "{DEVICE_ID}"' in line:
            depth = len(line) - len(line.lstrip())
            end = at + 1
            while end < len(lines) and len(lines[end]) - len(lines[end].lstrip()) > depth:
                end += 1
            return "\n".join(x[depth:] for x in lines[at:end])
    return ""


def capture_objects(vm: CaptureVm, types: dict[str, Any]) -> dict[str, Outcome]:
    """User-creatable type -> outcome of object-add with no property but an id, on no machine."""
    result: dict[str, Outcome] = {}
    for name, facts in types.items():
        if not facts["user-creatable"] or facts["abstract"]:
            continue
        try:
            answer = vm.message("object-add", {"qom-type": name, "id": "obj0"})
            if "error" in answer:
                result[name] = {"ok": False, "error": answer["error"]["desc"], "class": answer["error"]["class"]}
                continue
            result[name] = {"ok": True, "qom": vm.emulator.scrub(capture_tree(vm, "/objects/obj0"))}
        except Died as err:
            result[name] = {"hang" if err.status is None else "crash": True, "stderr": str(err)}
        vm.restart()
    return result
