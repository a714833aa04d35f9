# SPDX-License-Identifier: MIT
"""What QEMU says of features of a CPU model that TCG does not have: a warning each, for each CPU.

Which features those are is recorded (table `cpu-warnings`): per model, and what can be asked for besides. With `check=off`
nothing is said; with `enforce` the start ends.

QEMU: target/i386/cpu.c (x86_cpu_filter_features, x86_cpu_realizefn)
"""

from __future__ import annotations

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.location import Reporter

_SUFFIX = "-x86_64-cpu"


def warn_of_missing(vm: Machine, reporter: Reporter) -> None:
    """Warn of what -cpu asked for and TCG lacks; raises QemuError under `enforce`."""
    board = vm.board
    assert board is not None
    if board.cpu_type is None or vm.kvm_enabled or not vm.profile.has("cpu-warnings", "order"):
        return
    switches = {name: _is_on(value) for name, value in board.cpu_features}
    enforce = switches.get("enforce", False)
    if not enforce and not switches.get("check", True):
        return
    of_model: list[int] = vm.profile.get("cpu-warnings", board.cpu_type.removesuffix(_SUFFIX), [])
    if not of_model and not any(switches.values()):
        return
    order: list[list[str]] = vm.profile.get("cpu-warnings", "order")
    texts = [text for position, (feature, text) in enumerate(order) if switches.get(feature, position in of_model)]
    for _ in range(1 if enforce else board.smp.cpus):
        for text in texts:
            reporter.warn(text)
    if texts and enforce:
        raise QemuError("TCG doesn't support requested features")


def _is_on(value: str | bool) -> bool:
    return value if isinstance(value, bool) else value in ("on", "yes", "true", "y")
