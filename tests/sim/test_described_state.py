# SPDX-License-Identifier: MIT
"""State that is described, in a whole migration: what goes early, what forbids it, and in which order the rest goes."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.migration import register
from fakeqemu.migration.stream.vmstate import PostLoadError, VMStateDescription
from fakeqemu.migration.stream.vmstate_fields import uint32
from tests.sim._pair import RELEASES, URI, Pair, status, told


def described(name: str, *, priority: int = 0, **options: Any) -> VMStateDescription:
    return VMStateDescription(name, 1, 1, (uint32("x"),), priority=priority, **options)


def register_both(pair: Pair, vmsd: VMStateDescription) -> dict[str, int]:
    """A device of both sides; the state of the destination's."""
    states = [{"x": 7}, {"x": 0}]
    for side, state in zip((pair.source, pair.destination), states, strict=True):
        side.vm.savevm.register_vmsd(vmsd.name, 0, vmsd, state)
    return states[1]


def sections(pair: Pair) -> list[str]:
    """The sections in the order in which the source puts them; `active` when that is told."""
    seen: list[str] = []
    pair.source.vm.trace.watch(
        lambda _, fields: seen.append(fields.get("id") or fields["idstr"]), "savevm_section_start"
    )
    pair.source.vm.trace.watch(lambda _, fields: seen.append(fields["new_state"]), "migrate_set_state")
    return seen


@pytest.mark.parametrize("profile", RELEASES)
def test_what_is_marked_so_goes_while_the_migration_is_set_up_and_only_then(profile: str) -> None:
    pair = Pair(profile)
    there = register_both(pair, described("early", early_setup=True))
    late = register_both(pair, described("late"))
    seen = sections(pair)
    assert pair.migrate()["status"] == "completed"
    assert (there, late) == ({"x": 7}, {"x": 7})
    assert seen.count("early") == seen.count("late") == 1
    assert seen.index("early") < seen.index("active") < seen.index("late")


def test_the_state_of_all_goes_by_priority_and_the_run_state_last() -> None:
    pair = Pair()
    for name, priority in (
        ("low", register.MIG_PRI_LOW), ("one", 0), ("bus", register.MIG_PRI_PCI_BUS), ("two", 0),
        ("apic", register.MIG_PRI_APIC), ("iommu", register.MIG_PRI_IOMMU),
    ):  # fmt: skip
        register_both(pair, described(name, priority=priority))
    seen = sections(pair)
    assert pair.migrate()["status"] == "completed"
    ours = [name for name in seen if name in ("low", "one", "bus", "two", "apic", "iommu")]
    assert ours == ["apic", "bus", "iommu", "one", "two", "low"]


@pytest.mark.parametrize("profile", RELEASES)
def test_a_device_that_cannot_travel_forbids_it_as_long_as_it_is_there(profile: str) -> None:
    pair = Pair(profile)
    savevm = pair.source.vm.savevm
    entry = savevm.register_vmsd("stuck", 0, described("stuck", unmigratable=True), {"x": 0})
    with pytest.raises(QemuError, match=r"^State blocked by non-migratable device 'stuck'$"):
        pair.source.execute("migrate", uri=URI)
    assert pair.source.execute("query-migrate") == {"blocked-reasons": ["non-migratable device: stuck"]}
    assert told(pair.source) == []
    savevm.unregister(entry)
    assert pair.migrate()["status"] == "completed"


@pytest.mark.parametrize("profile", RELEASES)
def test_a_hook_before_the_save_that_refuses_fails_the_migration_and_the_guest_runs_on(profile: str) -> None:
    def refuse(_: Any) -> None:
        raise QemuError("no")

    pair = Pair(profile)
    register_both(pair, described("odd", pre_save=refuse))
    info = pair.migrate()
    assert info["status"] == "failed"
    assert status(pair.source) == "running"
    assert told(pair.destination)[-1] == "failed"


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("return_path", [False, True])
def test_a_hook_after_the_load_that_refuses_is_heard_of_with_a_return_path_only(
    profile: str, return_path: bool
) -> None:
    def refuse(_: Any, _version: int) -> None:
        raise PostLoadError("no")

    pair = Pair(profile)
    pair.capabilities(return_path=return_path)
    register_both(pair, described("odd", post_load=refuse))
    stays = {} if profile == "7.2" else {"exit_on_error": False}
    pair.destination.execute("migrate-incoming", uri=URI, **stays)
    pair.source.execute("migrate", uri=URI)
    info = pair.finish()
    assert told(pair.destination)[-1] == "failed"
    assert info["status"] == ("failed" if return_path else "completed")
    assert status(pair.source) == ("running" if return_path else "postmigrate")
