# SPDX-License-Identifier: MIT
"""Sets of capabilities tried one after the other, as the recorder did without writing the commands down."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from fakeqemu.error import QemuError


class _Trial:
    """One emulator whose capabilities are set and put back."""

    def __init__(self, emulator: Any) -> None:
        self._emulator = emulator
        self.names = [each["capability"] for each in emulator.execute("query-migrate-capabilities")]

    def of(self, *names: str) -> str | None:
        """The error of switching these on at once; they are off afterwards."""
        try:
            self._set(names, True)
        except QemuError as error:
            return error.desc
        self._set(tuple(reversed(names)), False)
        return None

    def _set(self, names: tuple[str, ...], state: bool) -> None:
        states = [{"capability": name, "state": state} for name in names]
        self._emulator.execute("migrate-set-capabilities", capabilities=states)


def answer_of_every_set(replay: Any, text: str, recorded: Any) -> Any:
    """What ours says to the sets of capabilities that a note is about."""
    (side,) = replay.sides.values()
    trial = _Trial(side.emulator)
    if text == "pairs with an error that neither has alone":
        alone = {name: trial.of(name) for name in trial.names}
        result: dict[str, list[list[str]]] = {}
        for pair in combinations(trial.names, 2):
            error = trial.of(*pair)
            if error is not None and error not in (alone[pair[0]], alone[pair[1]]):
                result.setdefault(error, []).append(list(pair))
        return result
    if text == "capabilities after a parameter":
        return [_after_parameter(side.emulator, trial, case) for case in recorded]
    return {names: trial.of(*names.replace("+", " ").split()) for names in recorded}


def _after_parameter(emulator: Any, trial: _Trial, case: list[Any]) -> list[Any]:
    parameter, names, reply, _error = case
    (name,) = parameter
    before = emulator.execute("query-migrate-parameters")[name]
    got = emulator.send({"execute": "migrate-set-parameters", "arguments": parameter})
    error = trial.of(*names)
    emulator.send({"execute": "migrate-set-parameters", "arguments": {name: before}})
    assert got == reply
    return [parameter, names, got, error]
