# SPDX-License-Identifier: MIT
"""The state of devices as a QEMU sends it: a machine that never ran is migrated into a file.

The stream is cut into its sections. A section has no length, but the description that QEMU appends names all
sections of devices in order, and each ends with a footer: the header of the next one tells where. RAM and other
iterated sections are no part of it; their names are kept, since they take section ids too.

QEMU: migration/savevm.c
"""

from __future__ import annotations

import base64
import json
import os
import struct
import time
from typing import Any

from fakeqemu.record.capture_queries import VARIANTS
from fakeqemu.record.capture_realize import CONTROLLERS, DEVICE_ID, MACHINES, PLAIN, RICH, devices
from fakeqemu.record.capture_vm import CaptureVm, Died, Emulator

SECTION_FULL = 4
FOOTER, VMDESC, EOF = 0x7E, 6, 0
LIMIT_S = 30.0


class NotUnderstood(Exception):
    """A stream that is not built as we think; the text says where."""


def capture_vmstate(emulator: Emulator) -> dict[str, Any]:
    """Machine variant -> its device state."""
    result = {}
    for variant, args in VARIANTS.items():
        with CaptureVm(emulator, args) as vm:
            result[variant] = dissect(migrated(vm))
    return result


def capture_device_vmstate(emulator: Emulator, realize: dict[str, Any]) -> dict[str, Any]:
    """Device type -> machine -> the sections that the device, made cold with no property, adds to the machine's.

    Of the other machines only those types that neither pc nor q35 took.
    """
    result: dict[str, Any] = {}
    for machine in MACHINES:
        # QEMU 11.1.2 dies of saving an NVMe controller without a drive.
        args = (
            [*MACHINES["q35"], *devices(x for x in CONTROLLERS if not x.startswith("nvme"))]
            if (machine == RICH)
            else MACHINES[machine]
        )
        with CaptureVm(emulator, args) as vm:
            plain = {(section["name"], section["instance"]) for section in dissect(migrated(vm))["sections"]}
        for name, outcomes in realize.items():
            made = [on for on in outcomes if outcomes[on]["cold"].get("ok")]
            if machine not in made or (machine not in PLAIN and any(plain in made for plain in PLAIN)):
                continue
            try:
                with CaptureVm(emulator, [*args, "-device", f"{name},id={DEVICE_ID}"]) as vm:
                    result.setdefault(name, {})[machine] = _added(dissect(migrated(vm)), plain)
            except Died as err:
                crashed = err.status is None or err.status < 0
                result.setdefault(name, {})[machine] = {"crash": True} if crashed else {"error": str(err)}
    return result


def names_of_sections(states: dict[str, Any]) -> dict[str, Any]:
    """What a start needs of `states`, the device state of all types: which sections there are, or why there are none."""
    return {
        name: {machine: {**state, **_headers(state)} for machine, state in machines.items()}
        for name, machines in states.items()
    }


def _headers(state: dict[str, Any]) -> dict[str, Any]:
    if "sections" not in state:
        return {}
    return {"sections": [{key: one[key] for key in ("name", "instance", "version")} for one in state["sections"]]}


def _added(state: dict[str, Any], plain: set[tuple[str, int]]) -> dict[str, Any]:
    described = {(device["name"], device["instance_id"]): device for device in state["vmdesc"]["devices"]}
    sections = [x for x in state["sections"] if (x["name"], x["instance"]) not in plain]
    return {"sections": [{**x, "vmdesc": described[(x["name"], x["instance"])]} for x in sections]}


def migrated(vm: CaptureVm) -> bytes:
    """The stream of a machine; raises Died, with QEMU's reason where it refuses."""
    path = vm.emulator.fresh_name("stream")
    answer = vm.message("migrate", {"uri": f"exec:cat > {path}"})
    if "error" in answer:
        raise Died(answer["error"]["desc"], 0)
    end = time.monotonic() + LIMIT_S
    while (info := vm.message("query-migrate")["return"])["status"] != "completed":
        if info["status"] == "failed" or time.monotonic() > end:
            raise Died(vm.emulator.scrub_text(info.get("error-desc", "the migration did not end")), 0)
        time.sleep(0.01)
    with open(path, "rb") as file:
        stream = file.read()
    os.unlink(path)
    return stream


def dissect(stream: bytes) -> dict[str, Any]:
    """Description and sections of a stream; raises NotUnderstood."""
    end, vmdesc = _description(stream)
    devices = vmdesc["devices"]
    starts = []
    at = 0
    for device in devices:
        at = _find_section(stream, at, end, device)
        starts.append(at)
    sections = []
    for device, start, stop in zip(devices, starts, [*starts[1:], end - 1], strict=True):
        section_id, data = int.from_bytes(stream[start + 1 : start + 5], "big"), start + 5 + len(_identity(device)) + 4
        if stream[stop - 5 : stop] != struct.pack(">BI", FOOTER, section_id):
            raise NotUnderstood(f"no footer after {device['name']} at {stop}")
        sections.append(
            {
                "name": device["name"],
                "instance": device["instance_id"],
                "version": int.from_bytes(stream[data - 4 : data], "big"),
                "section_id": section_id,
                "data": base64.b64encode(stream[data : stop - 5]).decode(),
            }
        )
    return {"vmdesc": vmdesc, "sections": sections}


def _description(stream: bytes) -> tuple[int, dict[str, Any]]:
    """Where the description begins, and it."""
    at = len(stream)
    while (at := stream.rfind(bytes([EOF, VMDESC]), 0, at)) >= 0:
        length = int.from_bytes(stream[at + 2 : at + 6], "big")
        if at + 6 + length == len(stream):
            return at + 1, json.loads(stream[at + 6 :])
    raise NotUnderstood("no description at the end")


def _identity(device: dict[str, Any]) -> bytes:
    """What a section's header says of its owner, before the version (which the description may leave out)."""
    name: bytes = device["name"].encode()
    return bytes([len(name)]) + name + struct.pack(">I", device["instance_id"])


def _find_section(stream: bytes, at: int, end: int, device: dict[str, Any]) -> int:
    identity = _identity(device)
    while (at := stream.find(identity, at, end)) >= 0:
        start = at - 5
        # The first comes behind the footer of an iterated section, every other behind the one before it.
        if stream[start] == SECTION_FULL and stream[start - 5] == FOOTER:
            return start
        at += 1
    raise NotUnderstood(f"no section of {device['name']}")
