# SPDX-License-Identifier: MIT
"""Which properties of the devices of a board can be set while the device lives.

Most cannot: QEMU says that the device was realized. Some never can, and some can at any time; no list tells which. So
each is set to a value that is of no property's type, and the words of the refusal tell them apart; a link is cleared.

QEMU: qom/object.c, hw/core/qdev-properties.c
"""

from __future__ import annotations

from typing import Any

from fakeqemu.record.capture_vm import CaptureVm

#: of no property's type
NONSENSE: list[Any] = [[[]]]
SETTLED = "Attempt to set "
NEVER = "is not writable"


def capture_settable(vm: CaptureVm, tree: dict[str, Any], devices: set[str]) -> dict[str, Any]:
    """Device type -> "never" and "always": names of properties, of several that are counted the one with `[*]`.

    What is in neither list can be set until the device is realized. `tree` is what `capture_tree` gave.
    """
    found: dict[str, dict[str, dict[str, None]]] = {}
    _walk(vm, tree, "", devices, found)
    return {type_name: {kind: sorted(names) for kind, names in kinds.items()} for type_name, kinds in found.items()}


def _walk(
    vm: CaptureVm, tree: dict[str, Any], path: str, devices: set[str], found: dict[str, dict[str, dict[str, None]]]
) -> None:
    for name, entry in tree.items():
        kind = entry[0]
        if not kind.startswith("child<") or len(entry) < 2 or "!" in entry[1]:
            continue
        type_name = kind[len("child<") : -1]
        at = f"{path}/{name}"
        if type_name in devices:
            kinds = found.setdefault(type_name, {"never": {}, "always": {}})
            for prop, (prop_type, *_) in entry[1].items():
                if not prop_type.startswith("child<") and prop not in ("type", "realized"):
                    what = _settable(vm, at, prop, is_link=prop_type.startswith("link<"))
                    if what:
                        kinds[what][_uncounted(prop)] = None
        _walk(vm, entry[1], at, devices, found)


def _settable(vm: CaptureVm, path: str, name: str, *, is_link: bool) -> str:
    answer = vm.message("qom-set", {"path": path, "property": name, "value": NONSENSE})
    if is_link and NEVER not in answer.get("error", {}).get("desc", ""):
        answer = vm.message("qom-set", {"path": path, "property": name, "value": ""})
    text = answer.get("error", {}).get("desc", "")
    if NEVER in text:
        return "never"
    return "" if text.startswith(SETTLED) else "always"


def _uncounted(name: str) -> str:
    stem, bracket, number = name.partition("[")
    return f"{stem}[*]" if bracket and number[:-1].isdigit() else name
