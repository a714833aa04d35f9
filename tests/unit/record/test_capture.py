# SPDX-License-Identifier: MIT
"""The capture's own reasoning, on a small emulator made for the test: a script, or an object that answers."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fakeqemu.record import capture_help, capture_realize, capture_vmstate
from fakeqemu.record.capture_qom import capture_types, differing
from fakeqemu.record.capture_schema import HiddenFacts, capture_commands
from fakeqemu.record.capture_vm import CaptureVm, Died, Emulator
from fakeqemu.record.capture_vmstate import NotUnderstood, dissect

# --- the process ------------------------------------------------------------------------------------------

SCRIPT = """#!/usr/bin/env python3
import json, os, signal, socket, sys
words = sys.argv[1:]
if "-version" in words:
    print("QEMU emulator version 1.2.3 (test)")
    sys.exit(0)
if words[-1:] == ["-broken"]:
    print(sys.argv[0] + ": -broken: does not work", file=sys.stderr)
    sys.exit(1)
path = words[words.index("-qmp") + 1].removeprefix("unix:").partition(",")[0]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(1)
connection = listener.accept()[0]
def put(value):
    connection.sendall(json.dumps(value).encode() + b"\\r\\n")
put({"QMP": {"version": {"qemu": {"major": 1, "minor": 2, "micro": 3}, "package": "test"}, "capabilities": []}})
for line in connection.makefile("rb"):
    request = json.loads(line)
    name = request["execute"]
    if name == "die":
        print("last words in " + os.getcwd(), file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGABRT)
    elif name == "hang":
        continue
    elif name == "event":
        put({"event": "HAPPENED", "timestamp": {"seconds": 0, "microseconds": 0}})
    elif name == "fail":
        put({"error": {"class": "GenericError", "desc": "no"}})
        continue
    put({"return": request.get("arguments", {})})
"""


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    script = tmp_path / "qemu-system-test"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    with Emulator([str(script)]) as made:
        yield made
    assert not Path(made.folder).exists()


def test_names_of_python_become_names_of_qmp(emulator: Emulator) -> None:
    with CaptureVm(emulator, []) as vm:
        assert vm("echo", some_thing=1) == {"some-thing": 1}
        assert vm.ask("echo", {"some_thing": 1}) == {"some_thing": 1}
        assert vm("fail") == {"error": {"class": "GenericError", "desc": "no"}}


def test_events_do_not_come_between_replies(emulator: Emulator) -> None:
    with CaptureVm(emulator, []) as vm:
        assert list(vm.pipelined([("event", {"n": n}) for n in range(20)])) == [{"n": n} for n in range(20)]
        assert [event["event"] for event in vm.events] == ["HAPPENED"] * 20


def test_a_death_is_an_answer_and_the_next_question_is_asked_of_another(emulator: Emulator) -> None:
    with CaptureVm(emulator, []) as vm:
        assert vm("die") == {"error": {"class": "x-crashed", "desc": "last words in $DIR\n"}}
        assert vm("echo", n=1) == {"n": 1}
        with pytest.raises(Died) as caught:
            vm.message("die")
        assert caught.value.status == -6


def test_a_hang_has_no_status(emulator: Emulator) -> None:
    with CaptureVm(emulator, [], answer_limit_s=0.2) as vm:
        with pytest.raises(Died) as caught:
            vm.message("hang")
        assert caught.value.status is None


def test_a_refused_start_has_a_status_and_its_text_names_no_path(emulator: Emulator) -> None:
    emulator.command.append("-x")
    answer = emulator.run(["-broken"])
    assert answer == {"stdout": "", "stderr": "qemu-system-x86_64: -broken: does not work\n", "status": 1}


def test_what_is_of_this_run_is_taken_out(emulator: Emulator) -> None:
    text = f"{emulator.folder}/qmp7 thread_id=123 #block456 0x00007f1234567890 0x0000000008000000 0x55d0a1b2c3d4"
    assert emulator.scrub_text(text) == (
        "$DIR/qmp thread_id=0 #block000 0x0000HOSTPTR 0x0000000008000000 0x0000HOSTPTR"
    )
    assert emulator.scrub([{"thread-id": 77}, {"thread-id": ["int", 78]}, {"id": 79}]) == [
        {"thread-id": 0},
        {"thread-id": ["int", 0]},
        {"id": 79},
    ]


# --- the interface ----------------------------------------------------------------------------------------

INT = {"name": "int", "meta-type": "builtin", "json-type": "int"}
ENTITIES: list[dict[str, Any]] = [
    {"name": "set", "meta-type": "command", "arg-type": "1", "ret-type": "0", "features": ["unstable"]},
    {"name": "get", "meta-type": "command", "arg-type": "0", "ret-type": "1", "allow-oob": True},
    {"name": "0", "meta-type": "object", "members": []},
    {
        "name": "1",
        "meta-type": "object",
        "tag": "kind",
        "members": [
            {"name": "kind", "type": "2"},
            {"name": "tiny", "type": "int"},
            {"name": "sizes", "type": "[int]"},
            {"name": "choice", "type": "4", "default": None},
        ],
        "variants": [{"case": "a", "type": "0"}, {"case": "b", "type": "3"}],
    },
    {"name": "2", "meta-type": "enum", "members": [{"name": "a"}, {"name": "b"}]},
    {"name": "3", "meta-type": "object", "members": [{"name": "deep", "type": "int"}]},
    {"name": "4", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "3"}]},
    {"name": "[int]", "meta-type": "array", "element-type": "int"},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    INT,
]


class Judge:
    """Answers as a QEMU whose `tiny` is an int8, `sizes` a list of uint16 and `deep` a uint64."""

    def message(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"error": {"class": "GenericError", "desc": self._judged(arguments)}}

    def _judged(self, arguments: dict[str, Any]) -> str:
        assert "~bogus" in arguments
        if not -128 <= arguments["tiny"] <= 127:
            return (
                "Parameter 'tiny' expects int8"
                if arguments["tiny"] < 1 << 63
                else ("Invalid parameter type for 'tiny', expected: integer")
            )
        if any(size > 65535 for size in arguments["sizes"]):
            return "Parameter 'sizes[0]' expects uint16"
        if arguments["kind"] == "b" and not isinstance(arguments.get("deep"), int):
            return "Parameter 'deep' is missing"
        if "choice" in arguments and not isinstance(arguments["choice"], str | dict):
            return "Invalid parameter type for 'choice', expected: TheChoice"
        return "Parameter '~bogus' is unexpected"


def test_widths_and_names_are_found_by_asking() -> None:
    facts = HiddenFacts(cast(CaptureVm, Judge()), {entity["name"]: entity for entity in ENTITIES})
    assert facts.ints == {"1": {"tiny": "int8", "sizes[]": "uint16"}, "3": {"deep": "uint64"}}
    assert facts.alternates == {"4": "TheChoice"}


class Answers:
    """Answers questions from a table."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def __call__(self, name: str, **arguments: Any) -> Any:
        return self.answers[json.dumps([name, arguments]) if arguments else name]


def test_a_command_without_arguments_has_none_for_their_type() -> None:
    vm = cast(CaptureVm, Answers({"query-commands": [{"name": "get"}, {"name": "set"}]}))
    assert capture_commands(vm, {entity["name"]: entity for entity in ENTITIES}, {"get": True}) == {
        "get": {"arg": None, "ret": "1", "oob": True, "preconfig": True, "features": []},
        "set": {"arg": "1", "ret": "0", "oob": False, "preconfig": False, "features": ["unstable"]},
    }


def test_types_know_their_interfaces() -> None:
    def asked(**arguments: Any) -> str:
        return json.dumps(["qom-list-types", arguments])

    nic, device, face = {"name": "nic", "parent": "device"}, {"name": "device"}, {"name": "face", "parent": "interface"}
    vm = cast(
        CaptureVm,
        Answers(
            {
                asked(abstract=True): [nic, face, device],
                asked(abstract=False): [nic],
                asked(implements="face", abstract=True): [nic, face],
                asked(implements="device", abstract=True): [nic, device],
            }
        ),
    )
    types = capture_types(vm)
    assert list(types) == ["nic", "face", "device"]
    assert types["nic"] == {
        "parent": "device",
        "abstract": False,
        "implements": ["face"],
        "user-creatable": False,
        "device": True,
    }
    assert types["face"]["implements"] == []
    assert types["device"]["parent"] is None


def test_only_what_differs_is_kept_a_second_time() -> None:
    assert differing({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 1}) == {"b": 2, "c": 3}


def test_options_are_read_from_the_help_and_asked(tmp_path: Path) -> None:
    script = tmp_path / "qemu-system-test"
    script.write_text("""#!/bin/sh
shift; shift
case $1 in
  -fda|-fdb|-name) echo "$0: $1: requires an argument" >&2; exit 1;;
  -S|-h|-help) exit 1;;
  -sd) echo "$0: -sd: Option not supported for this target" >&2; exit 1;;
  *) echo "$0: $1: invalid option" >&2; exit 1;;
esac
""")
    script.chmod(0o755)
    text = "-h or -help  display this help\n-fda/-fdb file  use it\n             -name NAME\n-S           freeze\n"
    with Emulator([str(script)]) as emulator:
        options = capture_help.capture_options(emulator, text, [{"option": "name", "parameters": [{"name": "guest"}]}])
    assert options == {
        "h": {"arg": False, "supported": True, "params": None},
        "fda": {"arg": True, "supported": True, "params": None},
        "name": {"arg": True, "supported": True, "params": [{"name": "guest"}]},
        "S": {"arg": False, "supported": True, "params": None},
        "help": {"arg": False, "supported": True, "params": None},
        "fdb": {"arg": True, "supported": True, "params": None},
        "sd": {"arg": False, "supported": False, "params": None},
    }


# --- devices ----------------------------------------------------------------------------------------------


def test_a_refusal_on_a_command_line_loses_the_place_in_front() -> None:
    prefix = "qemu-system-x86_64: -device nic,id=dev0: "
    text = "qemu-system-x86_64: warning: careful\n" + prefix + "nothing named\nTry something else.\n"
    assert capture_realize._refused(Died(text, 1), prefix) == {
        "ok": False,
        "error": "nothing named",
        "status": 1,
        "stderr": text,
    }
    assert capture_realize._refused(Died("x", -11), prefix) == {"crash": True, "signal": 11, "stderr": "x"}
    assert capture_realize._refused(Died("x"), prefix) == {"hang": True, "stderr": "x"}


def test_a_device_is_cut_out_of_info_qtree() -> None:
    text = (
        'bus: main-system-bus\r\n  dev: other, id ""\r\n    bus: pci.0\r\n      dev: nic, id "dev0"\r\n'
        '        addr = 01.0\r\n        bus: dev0.0\r\n          type X\r\n      dev: nic, id "dev1"\r\n'
    )
    assert capture_realize._stanza(text) == 'dev: nic, id "dev0"\n  addr = 01.0\n  bus: dev0.0\n    type X'
    assert capture_realize._stanza("bus: main-system-bus\n") == ""


def section(section_id: int, name: str, instance: int, version: int, payload: bytes) -> bytes:
    return (
        struct.pack(">BIB", 4, section_id, len(name))
        + name.encode()
        + struct.pack(">II", instance, version)
        + payload
        + struct.pack(">BI", 0x7E, section_id)
    )


def stream(*, vmdesc: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(vmdesc).encode()
    iterated = b"\x01\0\0\0\x02\x03ram" + bytes(8) + b"\0\6\0\0\0\0" + b"\x7e\0\0\0\x02"
    return b"QEVM\0\0\0\3" + iterated + body + b"\0\6" + len(text).to_bytes(4, "big") + text


DESCRIBED = {
    "page_size": 4096,
    "devices": [
        {"name": "timer", "instance_id": 0, "version": 2},
        {"name": "dma", "instance_id": 0},
        {"name": "dma", "instance_id": 1},
    ],
}


def test_a_stream_is_cut_into_its_sections() -> None:
    # A payload that looks like a footer and a header of another section.
    tricky = b"\x7e\0\0\0\x05\x04\0\0\0\x01\x05other" + b"\0\6\0\0"
    body = section(3, "timer", 0, 2, tricky) + section(7, "dma", 0, 1, b"") + section(8, "dma", 1, 9, b"\xff")
    assert dissect(stream(vmdesc=DESCRIBED, body=body)) == {
        "vmdesc": DESCRIBED,
        "sections": [
            {"name": "timer", "instance": 0, "version": 2, "section_id": 3, "data": base64.b64encode(tricky).decode()},
            {"name": "dma", "instance": 0, "version": 1, "section_id": 7, "data": ""},
            {"name": "dma", "instance": 1, "version": 9, "section_id": 8, "data": base64.b64encode(b"\xff").decode()},
        ],
    }


def test_a_stream_that_is_built_otherwise_is_not_guessed_at() -> None:
    whole = stream(vmdesc=DESCRIBED, body=section(3, "timer", 0, 2, b"x"))
    with pytest.raises(NotUnderstood, match="no section of dma"):
        dissect(whole)
    with pytest.raises(NotUnderstood, match="no description"):
        dissect(whole[:-1])
    broken = section(3, "timer", 0, 2, b"x")[:-1] + b"\x09"
    with pytest.raises(NotUnderstood):
        dissect(stream(vmdesc={**DESCRIBED, "devices": DESCRIBED["devices"][:1]}, body=broken))  # type: ignore[index]


def test_only_sections_that_a_device_brought_are_its_own() -> None:
    state = {
        "vmdesc": DESCRIBED,
        "sections": [{"name": "timer", "instance": 0, "data": ""}, {"name": "dma", "instance": 1, "data": "eA=="}],
    }
    assert capture_vmstate._added(state, {("timer", 0)}) == {
        "sections": [{"name": "dma", "instance": 1, "data": "eA==", "vmdesc": {"name": "dma", "instance_id": 1}}]
    }
