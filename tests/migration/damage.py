# SPDX-License-Identifier: MIT
"""Short streams, damaged at every place; what real QEMUs made of that is kept in tests/golden/damage.

    python -m tests.migration.damage 11.1        asks a real QEMU again, and writes the golden file

Together they have one of everything: the configuration's subsections, return path, RAM by all kinds of records, commands,
a package, devices, description. Each is cut at every byte (`cut`), and every byte of it is changed in some ways
(`changed`). A golden file lists outcomes and, for each place, which of them was seen: damage at most places ends alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.migration import streams
from tests.migration.streams import Case

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "damage"
#: what is done to a byte: a bit at the end, one at the beginning, all of them
FLIPS = (0x01, 0x80, 0xFF)
#: a machine of one megabyte
MIB = 1
PATIENCE_S = 10.0
#: an end that is no word of QEMU's: it aborts, or waits for what never comes
DIED, HUNG = "died", "hung"

Outcome = dict[str, Any]


def precopy(version: str) -> Case:
    """A migration with return path and RAM; undamaged, it completes."""
    switchover = b"" if version == "7.2" else streams.command(11)
    part = (
        streams.zero(0x3000)
        + streams.be(8, 0x5000 | 0x22) + b"\0"
        + streams.be(8, 0x3000 | 0x60) + b"\x01\0\x03\x04\x01x"
    )  # fmt: skip
    data = b"".join(
        (
            streams.header(),
            streams.configuration("none", streams.uuid(streams.A_UUID)),
            streams.command(1),
            streams.command(2, streams.be(4, 1)),
            streams.ram_start(),
            streams.ram_part(part),
            switchover,
            streams.part(1, streams.EOS, 3),
            streams.full(0, "timer", 2, bytes(24)),
            streams.globalstate("running"),
            streams.EOF,
            b"\x06" + streams.be(4, 19) + b'{"page_size": 4096}',
        )
    )
    return Case("precopy", data, mib=MIB)


def configured(_version: str) -> Case:
    """All that the configuration section can have, and a block whose place in memory is told."""
    parts = (
        streams.subsection("configuration/target-page-bits", streams.be(4, 12)),
        streams.capabilities("x-ignore-shared"),
        streams.uuid(streams.A_UUID),
    )
    block = streams.be(8, MIB << 20 | 4) + streams.block_name("ram") + streams.be(8, MIB << 20) + bytes(8) + streams.EOS
    data = b"".join(
        (
            streams.header(),
            streams.configuration("none", *parts),
            streams.start(1, 1, "ram", 4) + block + streams.footer(1),
            streams.part(1, streams.EOS, 3),
            streams.globalstate("paused"),
            streams.EOF,
        )
    )
    return Case("configured", data, mib=MIB, capabilities=("x-ignore-shared",), uuid=streams.A_UUID_TEXT)


def postcopy(_version: str) -> Case:
    """A migration that goes over to postcopy, as far as its package: what comes in there is not to run."""
    advise = streams.command(3, streams.be(8, 4096) * 2)
    discard = streams.command(6, b"\0" + streams.block_name("ram") + b"\0" + streams.be(8, 0) + streams.be(8, 0x2000))
    package = b"".join(
        (streams.full(0, "timer", 2, bytes(24)), streams.command(2, streams.be(4, 3)), streams.part(9, b""))
    )
    data = b"".join(
        (
            streams.header(),
            streams.configuration(),
            streams.command(1),
            advise,
            streams.ram_start(),
            discard,
            streams.command(7, streams.be(4, len(package))) + package,
            streams.EOF,
        )
    )
    return Case("postcopy", data, mib=MIB, capabilities=("postcopy-ram",))


def cut(whole: Case) -> Iterator[Case]:
    """The stream up to each of its bytes."""
    for size in range(len(whole.data) + 1):
        yield replace(whole, name=f"{whole.name} cut at {size}", data=whole.data[:size])


def changed(whole: Case) -> Iterator[Case]:
    """The stream with one byte of it changed."""
    data = whole.data
    for at in range(len(data)):
        for flip in FLIPS:
            wrong = data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :]
            yield replace(whole, name=f"{whole.name}, byte {at} ^ {flip:#x}", data=wrong)


WHOLE = (precopy, configured, postcopy)
KINDS = tuple(f"{whole.__name__} {damage.__name__}" for whole in WHOLE for damage in (cut, changed))


def cases(version: str, kind: str) -> list[Case]:
    """All damage of a kind (KINDS), as that release gets it."""
    name, _, what = kind.partition(" ")
    whole = next(one for one in WHOLE if one.__name__ == name)(version)
    return list((cut if what == "cut" else changed)(whole))


# --- what a real QEMU does ------------------------------------------------------------------------------


class _Monitor:
    """The least of a client: the tests' own needs an event loop, and thousands of processes go by here."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""
        self.events: list[list[Any]] = []
        self._read()
        self.execute("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        while b"\n" not in self._data:
            chunk = self._sock.recv(65536)
            if not chunk:
                raise EOFError
            self._data += chunk
        line, self._data = self._data.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def event(self) -> None:
        """Wait for an event and keep it."""
        message = self._read()
        self.events.append([message["event"], message.get("data", {})])

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        request = {"execute": command, "arguments": arguments or {}}
        self._sock.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self._read()
            if "event" in message:
                self.events.append([message["event"], message.get("data", {})])
                continue
            assert "return" in message, message
            return message["return"]

    @property
    def ended(self) -> bool:
        """Whether the migration has."""
        return bool(self.events) and self.events[-1] in ENDS

    @property
    def failed_to_wait(self) -> bool:
        return not self.ended


FAILED = ["MIGRATION", {"status": "failed"}]
ENDS = (["MIGRATION", {"status": "completed"}], FAILED)


def arguments(case: Case) -> list[str]:
    """The command line of a destination for it."""
    result = ["-nodefaults", "-machine", case.machine, "-incoming", "defer"]
    if case.mib:
        result += ["-m", str(case.mib)]
    if case.uuid:
        result += ["-uuid", case.uuid]
    return result


def real_outcome(command: list[str], case: Case, *, exits: bool, line: tuple[str, ...] = ()) -> Outcome:
    """What becomes of the stream at a real QEMU. `exits`: it ends when the load fails, and cannot be asked after; `line`: what
    the destination is started with, where the case does not say.
    """
    near, far = socket.socketpair()
    near.settimeout(PATIENCE_S)
    with tempfile.TemporaryDirectory(prefix="damage") as folder, near:
        path, errors = f"{folder}/s", Path(folder, "stderr")
        with errors.open("wb") as stderr:
            process = _start(command, list(line) or arguments(case), far, stderr)
        try:
            outcome = _ask(process, near, path, case, exits=exits)
        except TimeoutError:
            return {"end": HUNG}
        finally:
            process.kill()
            process.wait()
        lines = [
            line.partition(": ")[2]
            for line in errors.read_text(errors="replace").removesuffix("\n").split("\n")
            if line
        ]
        outcome["stderr"] = [line.replace(path, "PATH") for line in lines if "'-mon' is deprecated" not in line]
        return outcome


def _start(command: list[str], arguments: list[str], monitor: socket.socket, stderr: Any) -> subprocess.Popen[bytes]:
    """Start an emulator whose monitor is on that socket, which is given away."""
    with monitor:
        return subprocess.Popen(
            [*command, "-accel", "tcg", "-display", "none", *arguments,
             "-chardev", f"socket,id=test,fd={monitor.fileno()}", "-mon", "chardev=test,mode=control"],
            pass_fds=[monitor.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip


def _ask(process: subprocess.Popen[bytes], near: socket.socket, path: str, case: Case, *, exits: bool) -> Outcome:
    monitor = _Monitor(near)
    wanted = [{"capability": name, "state": True} for name in ("events", *case.capabilities)]
    monitor.execute("migrate-set-capabilities", {"capabilities": wanted})
    where = {"uri": f"unix:{path}"} if exits else {"uri": f"unix:{path}", "exit-on-error": False}
    monitor.execute("migrate-incoming", where)
    outcome: Outcome = {}
    with socket.socket(socket.AF_UNIX) as source:
        source.settimeout(PATIENCE_S)
        source.connect(path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            source.sendall(case.data)
            source.shutdown(socket.SHUT_WR)
        try:
            # One that ends with the load may or may not still answer.
            while not monitor.ended or (exits and monitor.events[-1] == FAILED):
                monitor.event()
            outcome["query-migrate"] = told(monitor.execute("query-migrate"))
            outcome["query-status"] = monitor.execute("query-status")["status"]
        except (EOFError, ConnectionResetError, BrokenPipeError):
            process.wait(PATIENCE_S)
            if process.returncode < 0:
                return {"end": DIED}
            outcome["exit"] = process.returncode
        outcome["answers"] = _answers(source).hex()
    outcome["events"] = monitor.events
    return outcome


def told(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key in ("status", "error-desc")}


def _answers(source: socket.socket) -> bytes:
    """All that came back before the end of the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := source.recv(65536):
            data += chunk
    return data


def saved_by(command: list[str], machine: str) -> bytes:
    """What a real QEMU saves of a machine of 16 MiB that has not run."""
    near, far = socket.socketpair()
    near.settimeout(PATIENCE_S)
    with near, tempfile.TemporaryDirectory(prefix="damage") as folder:
        pipe = Path(folder, "pipe")
        os.mkfifo(pipe)
        process = _start(command, ["-nodefaults", "-machine", machine, "-m", "16", "-S"], far, subprocess.DEVNULL)
        try:
            monitor = _Monitor(near)
            monitor.execute("migrate", {"uri": f"exec:cat > {pipe}"})
            return pipe.read_bytes()
        finally:
            process.kill()
            process.wait()


# --- the golden files -----------------------------------------------------------------------------------


def path_of(version: str) -> Path:
    return FOLDER / f"{version}.json"


def load(version: str) -> dict[str, list[Outcome]]:
    """What was seen, by kind of damage, in the order of `cases`."""
    kept = json.loads(path_of(version).read_text())
    outcomes = kept["outcomes"]
    return {kind: [outcomes[index] for index in kept["seen"][kind]] for kind in kept["seen"]}


def _write(version: str, seen: dict[str, list[Outcome]]) -> None:
    outcomes: list[Outcome] = []
    numbers: dict[str, list[int]] = {}
    for kind, all_of_it in seen.items():
        numbers[kind] = []
        for outcome in all_of_it:
            if outcome not in outcomes:
                outcomes.append(outcome)
            numbers[kind].append(outcomes.index(outcome))
    lines = ",\n".join(json.dumps(outcome) for outcome in outcomes)
    tables = ",\n".join(f"{json.dumps(kind)}: {json.dumps(table)}" for kind, table in numbers.items())
    FOLDER.mkdir(parents=True, exist_ok=True)
    path_of(version).write_text(f'{{"outcomes": [\n{lines}\n],\n"seen": {{\n{tables}\n}}}}\n')


def main(version: str) -> None:
    """Ask the real QEMU of this release about everything."""
    from tests.conformance._real import real_qemu

    command = real_qemu(version)
    assert command is not None, f"no real QEMU {version} here"
    exits = version == "7.2"
    seen: dict[str, list[Outcome]] = {}
    for kind in KINDS:
        seen[kind] = [real_outcome(command, case, exits=exits) for case in cases(version, kind)]
    _write(version, seen)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        main(wanted)
