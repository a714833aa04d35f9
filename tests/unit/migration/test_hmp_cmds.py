# SPDX-License-Identifier: MIT
"""`info migrate` word for word, as recorded of real QEMUs with these numbers."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.migration import hmp_cmds
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine

RAM = {
    "transferred": 131428, "total": 8388608, "duplicate": 0, "normal": 32, "normal-bytes": 131072, "mbps": 0,
    "dirty-sync-count": 1, "page-size": 4096, "multifd-bytes": 0, "pages-per-second": 0, "precopy-bytes": 131341,
    "downtime-bytes": 0, "postcopy-bytes": 0, "remaining": 8257536, "dirty-pages-rate": 0,
}  # fmt: skip
ACTIVE = {"status": "active", "total-time": 11, "setup-time": 1, "expected-downtime": 300, "ram": RAM}


@pytest.fixture
def reply(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    info: dict[str, Any] = {}
    monkeypatch.setattr(hmp_cmds, "query_migrate", lambda mig: info)
    return info


def vm(profile: str) -> Any:
    return SimMachine(SimWorld(seed=1), profile=profile).vm


def test_active_in_the_compact_form(reply: dict[str, Any]) -> None:
    reply.update(ACTIVE, remaining=8388608)
    assert hmp_cmds.info_migrate(vm("11.1")) == (
        "Status: \t\tactive\nTime (ms): \t\ttotal=11, setup=1, exp_down=300\nRemaining: \t\t8 MiB\nRAM info:\n"
        "  Throughput (Mbps): \t0.00\n  Sizes: \t\tpagesize=4 KiB, total=8 MiB\n"
        "  Transfers: \t\ttransferred=128 KiB, remain=7.88 MiB\n"
        "    Channels: \t\tprecopy=128 KiB, multifd=0 B, postcopy=0 B\n    Page Types: \tnormal=32, zero=0\n"
        "  Page Rates (pps): \ttransfer=0\n  Others: \t\tdirty_syncs=1\n"
    )


def test_active_in_the_long_form(reply: dict[str, Any]) -> None:
    reply.update(ACTIVE)
    assert hmp_cmds.info_migrate(vm("10.0")) == (
        "globals:\nstore-global-state: on\nonly-migratable: off\nsend-configuration: on\nsend-section-footer: on\n"
        "send-switchover-start: on\nclear-bitmap-shift: 18\nMigration status: active\ntotal time: 11 ms\n"
        "expected downtime: 300 ms\nsetup: 1 ms\ntransferred ram: 128 kbytes\nthroughput: 0.00 mbps\n"
        "remaining ram: 8064 kbytes\ntotal ram: 8192 kbytes\nduplicate: 0 pages\nnormal: 32 pages\n"
        "normal bytes: 128 kbytes\ndirty sync count: 1\npage size: 4 kbytes\nmultifd bytes: 0 kbytes\n"
        "pages-per-second: 0\nprecopy ram: 128 kbytes\n"
    )


def test_a_destination(reply: dict[str, Any]) -> None:
    reply.update({"status": "active", "socket-address": [{"type": "unix", "path": "/d"}]})
    assert hmp_cmds.info_migrate(vm("11.1")) == "Status: \t\tactive\nSockets: [\n\tunix:/d\n]\n"
    assert hmp_cmds.info_migrate(vm("7.2")).endswith(
        "decompress-error-check: on\nclear-bitmap-shift: 18\nMigration status: active\ntotal time: 0 ms\n"
        "socket address: [\n\tunix:/d\n]\n"
    )


def test_idle(reply: dict[str, Any]) -> None:
    assert hmp_cmds.info_migrate(vm("11.1")) == ""
    assert hmp_cmds.info_migrate(vm("11.1"), ["-a"]) == (
        "Globals:\n  store-global-state: on\n  only-migratable: off\n  send-configuration: on\n"
        "  send-section-footer: on\n  send-switchover-start: on\n  clear-bitmap-shift: 18\n"
    )


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize("name", ["capabilities", "parameters"])
def test_options_are_listed_as_captured(profile: str, name: str) -> None:
    captured = VersionProfile.load(profile).get("hmp", f"none/info migrate_{name}")
    text = getattr(hmp_cmds, f"info_migrate_{name}")(vm(profile))
    assert text.replace("\n", "\r\n") == captured


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (131428, "128 KiB"), (8406149, "8.02 MiB"), (8257536, "7.88 MiB"), (1 << 40, "1 TiB"), (999, "999 B")],
)
def test_sizes(size: int, text: str) -> None:
    assert hmp_cmds.size_text(size) == text
