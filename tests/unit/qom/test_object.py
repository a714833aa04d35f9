# SPDX-License-Identifier: MIT
"""Objects, paths, links, children; recorded objects come to life when somebody looks."""

from __future__ import annotations

import pytest

from fakeqemu.error import DEVICE_NOT_FOUND, NotEmulated, QemuError
from fakeqemu.qom.object import Container, Object
from fakeqemu.system.machine import Machine


def refusal(call: object, *arguments: object) -> str:
    with pytest.raises(QemuError) as refused:
        call(*arguments)  # type: ignore[operator]
    return refused.value.desc


def test_paths_absolute_partial_and_ambiguous(q35: Machine) -> None:
    qom = q35.qom
    assert qom.resolve("//machine//unattached/").path == "/machine/unattached"
    assert qom.resolve("unattached").path == "/machine/unattached"
    assert refusal(qom.resolve, "") == "Path '' is ambiguous"
    with pytest.raises(QemuError) as missing:
        qom.resolve("/nosuch")
    assert (missing.value.cls, missing.value.desc) == (DEVICE_NOT_FOUND, "Device '/nosuch' not found")


def test_a_path_may_lead_through_a_link(q35: Machine) -> None:
    assert q35.qom.resolve("/machine/unattached/device[0]/memory").path == "/machine/unattached/system[0]"


def test_properties_that_are_not_there_or_not_to_be_set(q35: Machine) -> None:
    machine = q35.qom.resolve("/machine")
    assert refusal(machine.get, "nosuch") == "Property 'pc-q35-11.1-machine.nosuch' not found"
    assert refusal(machine.set, "type", "x") == "Property 'pc-q35-11.1-machine.type' is not writable"
    region = q35.qom.resolve("/machine/unattached/system[0]")
    assert refusal(region.set, "size", 1) == "Property 'memory-region.size' is not writable"


def test_a_link_takes_the_path_of_an_object_of_its_type(q35: Machine) -> None:
    machine = q35.qom.resolve("/machine")
    assert refusal(machine.set, "memory-backend", "x") == "Device 'x' not found"
    wrong = refusal(machine.set, "memory-backend", "/machine")
    assert wrong == "Invalid parameter type for 'memory-backend', expected: memory-backend"
    machine.set("memory-backend", "/objects/pc.ram")
    assert machine.get("memory-backend") == "/objects/pc.ram"


def test_children_are_listed_and_read_as_paths(q35: Machine) -> None:
    names = [prop.name for prop in q35.qom.resolve("/machine").properties()]
    assert "unattached" in names
    assert q35.qom.resolve("/machine").get("unattached") == "/machine/unattached"


def test_a_name_is_taken_once(none: Machine) -> None:
    parent = Container(none)
    parent.add_child("a", Object(none, "container"))
    text = refusal(parent.add_child, "a", Object(none, "container"))
    assert text == "attempt to add duplicate property 'a' to object (type 'container')"
    assert parent.add_child("a[*]", Object(none, "container")).name == "a[0]"
    assert parent.add_child("a[*]", Object(none, "container")).name == "a[1]"


def test_leaving_the_tree_takes_along_what_is_below(none: Machine) -> None:
    told: list[str] = []

    class Watched(Object):
        def unparented(self) -> None:
            told.append(self.path)

    upper, lower = Watched(none, "container"), Watched(none, "container")
    none.qom.root.add_child("upper", upper)
    upper.add_child("lower", lower)
    upper.unparent()
    assert told == ["/upper/lower", "/upper"]
    assert upper.parent is None
    assert upper.path == ""
    assert none.qom.find("/upper") is None


def test_containers_list_by_the_hash_table(none: Machine) -> None:
    # As 7.2 lists them after these were made in this order.
    container = Container(none)
    for name in ("i1", "i2", "zz", "m1", "aa", "pc.ram"):
        container.add_child(name, Object(none, "container"))
    assert [prop.name for prop in container.properties()] == ["type", "m1", "zz", "i1", "pc.ram", "aa", "i2"]
    container.add_child("b1", Object(none, "container"))
    assert [prop.name for prop in container.properties()][1:4] == ["m1", "zz", "b1"]


def test_a_defined_property_has_its_own_ways(none: Machine) -> None:
    kept: list[int] = []
    target = Object(none, "container")
    target.define("n", "uint8", lambda: len(kept), kept.append)
    target.define("fixed", "int", lambda: 5)
    target.set("n", 7)
    target.set_str("n", "0x9")
    assert (kept, target.get("n")) == ([7, 9], 2)
    assert refusal(target.set, "n", 300) == "Parameter 'n' expects uint8_t"
    assert refusal(target.set, "fixed", 1) == "Property 'container.fixed' is not writable"


def test_a_value_that_nobody_knows_is_not_made_up(none: Machine) -> None:
    target = Object(none, "container")
    target.define("odd", "SomeStruct")
    with pytest.raises(NotEmulated):
        target.get("odd")


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize("board", ["none", "pc", "q35", "microvm"])
def test_every_recorded_object_can_be_listed_and_read(board: str, profile: str) -> None:
    from .conftest import ready

    vm = ready(board, profile)
    count = 0
    for target in vm.qom.walk():
        for prop in target.properties():
            try:
                target.read(prop)
            except QemuError:
                pass
            else:
                count += 1
        assert vm.qom.resolve(target.path) is target
    assert count > (30 if board == "none" else 500)
