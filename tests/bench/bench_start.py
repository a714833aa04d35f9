# SPDX-License-Identifier: MIT
"""From exec to the whole greeting, and to the first reply: bare, and with a command line of 20 devices as libvirt writes it.

python -m tests.bench.bench_start [ROUNDS]
"""

from __future__ import annotations

import json
import sys

from tests.bench._real import PROFILE, fake_qemu, median, need_real, running

BARE = ("-accel", "tcg", "-display", "none", "-nodefaults", "-machine", "none")
ALLOWED_RATIO = 2.0


def libvirt_arguments() -> tuple[str, ...]:
    """A domain as libvirt starts it, without disks and networks of the host."""
    words = [
        "-name", "guest=d12,debug-threads=on", "-S",
        "-object", json.dumps({"qom-type": "secret", "id": "masterKey0", "format": "raw", "data": "c2VjcmV0"}),
        "-machine", "pc-q35-11.1,usb=off,smm=on,dump-guest-core=off,memory-backend=pc.ram,acpi=on",
        "-accel", "tcg", "-cpu", "qemu64",
        "-m", "size=196608k,slots=4,maxmem=1048576k",
        "-object", json.dumps({"qom-type": "memory-backend-memfd", "id": "pc.ram", "share": True, "size": 201326592}),
        "-overcommit", "mem-lock=off", "-smp", "2,sockets=2,cores=1,threads=1",
        "-object", json.dumps({"qom-type": "iothread", "id": "iothread1"}),
        "-object", json.dumps({"qom-type": "iothread", "id": "iothread2"}),
        "-uuid", "7f61d5ef-5fcb-43fb-bc96-03fd23024ba8", "-display", "none", "-no-user-config", "-nodefaults",
        "-rtc", "base=utc", "-no-shutdown", "-boot", "strict=on",
    ]  # fmt: skip
    devices: list[dict[str, object]] = []
    for number in range(12):
        slot, function = 2 + number // 8, number % 8
        port: dict[str, object] = {"driver": "pcie-root-port", "port": 16 + number, "chassis": number + 1}
        port |= {
            "id": f"pci.{number + 1}",
            "bus": "pcie.0",
            "addr": f"0x{slot:x}" + (f".0x{function:x}" if function else ""),
        }
        if not function:
            port["multifunction"] = True
        devices.append(port)
    devices += [
        {"driver": "qemu-xhci", "p2": 8, "p3": 8, "id": "usb", "bus": "pci.2", "addr": "0x0"},
        {"driver": "virtio-scsi-pci", "id": "scsi0", "bus": "pci.3", "addr": "0x0"},
        {"driver": "virtio-serial-pci", "id": "virtio-serial0", "bus": "pci.4", "addr": "0x0"},
        {"driver": "isa-serial", "chardev": "charserial0", "id": "serial0", "index": 0},
        {"driver": "usb-tablet", "id": "input0", "bus": "usb.0", "port": "1"},
        {"driver": "VGA", "id": "video0", "bus": "pcie.0", "addr": "0x1"},
        {"driver": "virtio-balloon-pci", "id": "balloon0", "bus": "pci.6", "addr": "0x0"},
        {"driver": "virtio-rng-pci", "rng": "objrng0", "id": "rng0", "bus": "pci.7", "addr": "0x0"},
    ]
    words += ["-chardev", "null,id=charserial0", "-object", json.dumps({"qom-type": "rng-builtin", "id": "objrng0"})]
    for device in devices:
        words += ["-device", json.dumps(device)]
    words += [
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-msg",
        "timestamp=on",
    ]
    return tuple(words)


def start_ms(command: list[str], arguments: tuple[str, ...]) -> tuple[float, float]:
    """From exec to the greeting, and to the first reply."""
    with running(command, arguments) as emulator:
        return emulator.start_ns / 1e6, emulator.first_reply_ns / 1e6


def compare(what: str, fake: list[str], real: list[str], arguments: tuple[str, ...], rounds: int) -> float:
    """Start both, one after the other, some times; print the medians. Returns the ratio of exec to greeting."""
    start_ms(fake, arguments)  # files of both into the page cache
    start_ms(real, arguments)
    # By turns, so that whatever else the machine does meanwhile slows both.
    pairs = [(start_ms(fake, arguments), start_ms(real, arguments)) for _ in range(rounds)]
    ratios = []
    for moment, name in enumerate(("greeting", "reply")):
        ours, theirs = median([x[moment] for x, _ in pairs]), median([x[moment] for _, x in pairs])
        ratios.append(ours / theirs)
        limit = "" if moment else f" (at most {ALLOWED_RATIO})"
        print(
            f"{name:8}, {what:10}: ours {ours:6.1f} ms, QEMU {PROFILE} {theirs:6.1f} ms, ratio {ours / theirs:.2f}{limit}"
        )
    return ratios[0]


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    real = need_real("start")
    with fake_qemu() as fake:
        bare = compare("bare", fake, real, BARE, rounds)
        devices = compare("20 devices", fake, real, libvirt_arguments(), rounds)
    return int(max(bare, devices) > ALLOWED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
