# SPDX-License-Identifier: MIT
"""Conversations recorded from real QEMUs (tests/data/qmp), held against a monitor with no socket: byte for byte."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.system.machine import Machine

from .conftest import Client, MakeMachine

DATA = Path(__file__).parents[2] / "data" / "qmp"
PROFILES = ("7.2", "10.0", "11.1")


def load(profile: str) -> list[dict[str, Any]]:
    lines = (DATA / f"wire-{profile}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def sent(step: dict[str, Any]) -> bytes:
    if "b64" in step:
        return base64.b64decode(step["b64"])
    value = step.get("send", step.get("raw", ""))
    pieces = [value] if isinstance(value, str) else [p if isinstance(p, str) else p[0] * p[1] for p in value]
    return ("".join(pieces) + ("\n" if "send" in step else "")).encode("utf-8", "surrogateescape")


def normalised(line: str) -> str:
    line = re.sub(r'"package": "[^"]*"', '"package": "PACKAGE"', line)
    return re.sub(r'"timestamp": \{[^}]*\}', '"timestamp": "T"', line)


def play(vm: Machine, case: dict[str, Any]) -> list[tuple[bytes, list[str], list[str]]]:
    """Steps whose answer differs: (sent, expected, got)."""
    clients: dict[str, Client] = {}
    if case.get("negotiated", True):
        first = clients["a"] = Client(vm, "compat_monitor0")
        first.lines()
        first.send('{"execute": "qmp_capabilities"}\n')
    wrong = []
    for step in case["steps"]:
        name = step.get("open") or (step["recv"] if isinstance(step.get("recv"), str) else step.get("on", "a"))
        if "close" in step:
            clients.pop(step["close"]).monitor.close()
            continue
        if "open" in step:
            clients[name] = Client(vm, f"compat_monitor{len(clients)}")
        elif "recv" not in step:
            clients[name].monitor.receive_data(sent(step))
        got = [normalised(line) for line in clients[name].lines()]
        if got != step.get("expect", []):
            wrong.append((sent(step), step.get("expect", []), got))
    for client in clients.values():
        client.monitor.close()
    return wrong


@pytest.mark.parametrize("profile", PROFILES)
def test_recorded_conversations(make_machine: MakeMachine, profile: str) -> None:
    cases = load(profile)
    assert len(cases) > 200
    wrong = {case["name"]: differences for case in cases if (differences := play(make_machine(profile), case))}
    assert not wrong


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_when_every_byte_comes_alone(make_machine: MakeMachine, profile: str) -> None:
    for case in load(profile)[::7]:
        whole, bytewise = (Client(make_machine(profile), "m") for _ in range(2))
        whole.lines()
        bytewise.lines()
        for step in case["steps"]:
            data = sent(step)
            expected = [normalised(line) for line in whole.send(data)]
            got = [normalised(line) for i in range(len(data)) for line in bytewise.send(data[i : i + 1])]
            assert got == expected, case["name"]
