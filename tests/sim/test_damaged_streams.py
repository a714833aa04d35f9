# SPDX-License-Identifier: MIT
"""A short stream, cut at every byte and with every byte changed, ends at a machine of ours as real QEMUs were seen to end.

The golden files (tests/migration/damage.py) have status, error-desc, run state, events, what was printed, what went back
to the source, and the exit status where the process ends. Beside that nothing may be left: no task, no descriptor.
"""

from __future__ import annotations

import pytest

from tests.migration import damage
from tests.sim._destination import outcome_here

#: where QEMU printed what happened to be in its memory
UNDEFINED = {("7.2", "cut at 135")}


@pytest.mark.parametrize("kind", ["cut", "changed"])
@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_damage_at_every_byte_ends_as_at_a_real_qemu(version: str, kind: str) -> None:
    expected = damage.load(version)[kind]
    cases = damage.kinds(version)[kind]
    assert len(cases) == len(expected)
    different = []
    for case, outcome in zip(cases, expected, strict=True):
        got = outcome_here(case, version)
        if "end" not in outcome and (version, case.name) not in UNDEFINED and got != outcome:
            different.append(f"{case.name}\n  real {outcome}\n  ours {got}")
    assert not different, f"{len(different)} of {len(cases)}:\n" + "\n".join(different[:20])
