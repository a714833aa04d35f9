# SPDX-License-Identifier: MIT
"""Fields that came with some version, in any description: older versions lack them; only their order tells them apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fakeqemu.host.sync import run_sync
from fakeqemu.migration.stream import vmdesc, vmstate
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.vmstate import Field, LoadError, VMStateDescription
from fakeqemu.migration.stream.vmstate_fields import integer

SIZES = {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8}
FOOTER = b"\x7e" * 300
HIGHEST = 5

#: of each field its kind, the version that it came with, and its value
MEMBERS = st.lists(
    st.sampled_from(sorted(SIZES)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.integers(0, HIGHEST), st.integers(1, 256 ** SIZES[kind] - 1))
    ),
    min_size=1,
    max_size=8,
)


def described(members: list[tuple[str, int, int]], minimum: int = 0) -> VMStateDescription:
    fields: list[Field] = [integer(kind, f"f{n}", since=since) for n, (kind, since, _) in enumerate(members)]
    return VMStateDescription("thing", HIGHEST, minimum, tuple(fields))


def saved(vmsd: VMStateDescription, state: dict[str, Any], version: int) -> bytes:
    f = QEMUFile()
    vmstate.save_state(f, vmsd, state, version)
    return f.getvalue()


def values(members: list[tuple[str, int, int]]) -> dict[str, int]:
    return {f"f{n}": value for n, (_, _, value) in enumerate(members)}


@given(MEMBERS, st.integers(0, HIGHEST))
def test_a_version_has_the_fields_that_came_with_it_or_before(
    members: list[tuple[str, int, int]], version: int
) -> None:
    vmsd = described(members)
    data = saved(vmsd, values(members), version)
    there = [(kind, value) for kind, since, value in members if since <= version]
    assert data == b"".join(value.to_bytes(SIZES[kind], "big") for kind, value in there)
    state = dict.fromkeys(values(members), 0)
    f = QEMUFile.over(data + FOOTER)
    run_sync(vmstate.load_state(f, vmsd, state, version))
    assert f.available == len(FOOTER)
    assert state == {
        name: value if members[int(name[1:])][1] <= version else 0 for name, value in values(members).items()
    }


@given(MEMBERS)
def test_the_order_of_the_fields_is_that_of_the_bytes(members: list[tuple[str, int, int]]) -> None:
    state, turned = values(members), list(reversed(members))
    data = saved(described(members), state, HIGHEST)
    again = saved(described(turned), values(turned), HIGHEST)
    assert len(data) == len(again)
    # Of equal bytes nobody can tell the order.
    parts = [value.to_bytes(SIZES[kind], "big") for kind, _, value in members]
    assert (data == again) == (b"".join(parts) == b"".join(reversed(parts)))


@given(MEMBERS)
def test_a_reader_with_another_order_reads_something_else_and_ends_where_it_should(
    members: list[tuple[str, int, int]],
) -> None:
    """Nothing but the footer tells, and here not even that: the sizes are the same."""
    assume(len({kind for kind, _, _ in members}) > 1)
    data = saved(described(members), values(members), HIGHEST)
    f = QEMUFile.over(data + FOOTER)
    turned = list(reversed(members))
    state = dict.fromkeys(values(turned), 0)
    run_sync(vmstate.load_state(f, described(turned), state, HIGHEST))
    assert f.available == len(FOOTER)
    assert saved(described(turned), state, HIGHEST) == data


@given(MEMBERS, st.integers(0, HIGHEST), st.integers(0, HIGHEST + 3))
def test_versions_are_taken_from_the_lowest_to_the_highest(
    members: list[tuple[str, int, int]], minimum: int, version: int
) -> None:
    vmsd = described(members, minimum)
    f = QEMUFile.over(saved(described(members), values(members), min(version, HIGHEST)) + FOOTER)
    state = dict.fromkeys(values(members), 0)
    if minimum <= version <= HIGHEST:
        run_sync(vmstate.load_state(f, vmsd, state, version))
        return
    with pytest.raises(LoadError) as refused:
        run_sync(vmstate.load_state(f, vmsd, state, version))
    which = "new for local version_id 5" if version > HIGHEST else f"old for local minimum version_id {minimum}"
    assert refused.value.desc == f"thing: incoming version_id {version} is too {which}"
    assert not any(state.values())


@given(MEMBERS, st.integers(0, HIGHEST))
def test_the_description_of_a_version_accounts_for_its_bytes(members: list[tuple[str, int, int]], version: int) -> None:
    f = QEMUFile()
    desc = vmstate.save_state(f, described(members), values(members), version)
    assert desc["version"] == version
    assert vmdesc.described_size(desc) == len(f.getvalue())
    assert len(desc["fields"]) == sum(since <= version for _, since, _ in members)
