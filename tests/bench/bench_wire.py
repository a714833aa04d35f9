# SPDX-License-Identifier: MIT
"""What a QMP round trip costs inside of the emulator, without its socket: prints ratios.

    python tests/bench/bench_wire.py [PROFILE]

The yardstick is a loop that reads the same request with the standard library's json, looks its command up in a dict and
writes the answer with json: the least that a server in Python does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

sys.path.insert(0, str(Path(__file__).parents[2]))

from fakeqemu.monitor.qmp import MonitorQMP
from fakeqemu.qapi.json_stream import NOTHING, JSONStream
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.build import new_machine

STATUS = b'{"execute": "query-status", "id": "__qmp#00042"}'
CAPABILITIES = (
    b'{"execute": "migrate-set-capabilities", "id": "libvirt-12", "arguments": {"capabilities": ['
    b'{"capability": "events", "state": true}, {"capability": "return-path", "state": true}, '
    b'{"capability": "multifd", "state": false}]}}'
)
REPLY = {"return": {"status": "running", "running": True}}


def bare(data: bytes) -> bytes:
    """The yardstick."""
    message = json.loads(data)
    answer = dict({"query-status": REPLY}.get(message["execute"], {"return": {}}))
    answer["id"] = message["id"]
    return json.dumps(answer).encode() + b"\r\n"


def ns_each(call: Callable[[], object], rounds: int = 20_000) -> float:
    """The best of five runs."""
    best = float("inf")
    for _ in range(5):
        start = perf_counter_ns()
        for _ in range(rounds):
            call()
        best = min(best, (perf_counter_ns() - start) / rounds)
    return best


def main() -> None:
    profile = VersionProfile.load(sys.argv[1] if len(sys.argv) > 1 else "11.1")
    vm = new_machine(SimHost(seed=1), profile)
    vm.phase = "ready"
    out: list[bytes] = []
    monitor = MonitorQMP(vm, write=out.append, name="bench")
    monitor.connected()
    monitor.receive_data(b'{"execute": "qmp_capabilities"}')

    def trip(data: bytes) -> Callable[[], object]:
        def once() -> None:
            out.clear()
            monitor.receive_data(data)
            assert out

        return once

    def parse_exactly(data: bytes) -> Callable[[], object]:
        stream = JSONStream(bool(vm.compat.json_errors_at_once))

        def once() -> None:
            stream.feed(data)
            assert stream.next() is not NOTHING
            assert stream.next() is NOTHING

        return once

    yardstick = ns_each(lambda: bare(STATUS))
    rows = [
        ("bare json loop, query-status", yardstick),
        ("query-status", ns_each(trip(STATUS))),
        ("query-status, ten in one read", ns_each(trip(STATUS * 10), 2_000) / 10),
        ("migrate-set-capabilities of three", ns_each(trip(CAPABILITIES))),
        ("unknown command", ns_each(trip(STATUS.replace(b"query-status", b"nosuch")))),
        ("parsing it the fast way", ns_each(parse_exactly(STATUS))),
        ("parsing it the exact way", ns_each(parse_exactly(STATUS.replace(b'"', b"'")), 2_000)),
        ("query-qmp-schema", ns_each(trip(b'{"execute": "query-qmp-schema", "id": 1}'), 200)),
    ]
    for what, ns in rows:
        print(f"{what:36} {ns / 1000:9.2f} us   {ns / yardstick:7.2f} x")


if __name__ == "__main__":
    main()
