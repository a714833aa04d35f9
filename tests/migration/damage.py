# SPDX-License-Identifier: MIT
"""One short stream, damaged at every place; what real QEMUs made of that is kept in tests/golden/damage.

    python -m tests.migration.damage 11.1        asks a real QEMU again, and writes the golden file

The stream has one of everything: return path, RAM by all kinds of records, commands, devices, description. It is cut at
every byte (`cut`), and every byte of it is changed in some ways (`changed`). A golden file lists outcomes and, for each
place, which of them was seen: damage at most places ends alike.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


def base(version: str) -> bytes:
    """The stream, undamaged: all of these releases complete with it."""
    switchover = b"" if version == "7.2" else streams.command(11)
    part = (
        streams.zero(0x3000)
        + streams.be(8, 0x5000 | 0x22) + b"\0"
        + streams.be(8, 0x3000 | 0x60) + b"\x01\0\x03\x04\x01x"
    )  # fmt: skip
    return b"".join(
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


def cut(version: str) -> Iterator[Case]:
    """The stream up to each of its bytes."""
    data = base(version)
    for size in range(len(data) + 1):
        yield Case(f"cut at {size}", data[:size], mib=MIB)


def changed(version: str) -> Iterator[Case]:
    """The stream with one byte of it changed."""
    data = base(version)
    for at in range(len(data)):
        for flip in FLIPS:
            yield Case(f"byte {at} ^ {flip:#x}", data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :], mib=MIB)


def kinds(version: str) -> dict[str, list[Case]]:
    """All damage of a release, by kind."""
    return {"cut": list(cut(version)), "changed": list(changed(version))}


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


ENDS = (["MIGRATION", {"status": "completed"}], ["MIGRATION", {"status": "failed"}])


def arguments(case: Case) -> list[str]:
    """The command line of a destination for it."""
    result = ["-nodefaults", "-machine", "none", "-incoming", "defer"]
    if case.mib:
        result += ["-m", str(case.mib)]
    if case.uuid:
        result += ["-uuid", case.uuid]
    return result


def real_outcome(command: list[str], case: Case, *, exits: bool) -> Outcome:
    """What becomes of the stream at a real QEMU. `exits`: it ends when the load fails, and cannot be asked after."""
    near, far = socket.socketpair()
    near.settimeout(PATIENCE_S)
    with tempfile.TemporaryDirectory(prefix="damage") as folder, near:
        path, errors = f"{folder}/s", Path(folder, "stderr")
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, "-accel", "tcg", "-display", "none", *arguments(case),
                 "-chardev", f"socket,id=test,fd={far.fileno()}", "-mon", "chardev=test,mode=control"],
                pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip
        far.close()
        try:
            outcome = _ask(process, near, path, case, exits=exits)
        except TimeoutError:
            return {"end": HUNG}
        finally:
            process.kill()
            process.wait()
        lines = [line.partition(": ")[2] for line in errors.read_text(errors="replace").splitlines()]
        outcome["stderr"] = [line.replace(path, "PATH") for line in lines if "'-mon' is deprecated" not in line]
        return outcome


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
            while not monitor.ended:
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


# --- the golden files -----------------------------------------------------------------------------------


def path_of(version: str) -> Path:
    return FOLDER / f"{version}.json"


def load(version: str) -> dict[str, list[Outcome]]:
    """What was seen, by kind of damage, in the order of `kinds`."""
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
    for kind, cases in kinds(version).items():
        seen[kind] = [real_outcome(command, case, exits=exits) for case in cases]
    _write(version, seen)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        main(wanted)
