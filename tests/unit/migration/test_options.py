# SPDX-License-Identifier: MIT
"""Capabilities and parameters: all or nothing, in each release's words. The words were asked of real QEMUs."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.migration.options import MigrationOptions
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.system.ramblock import MappedStore, RAMBlock, file_system_of


class _Vm:
    """What options need of a machine."""

    def __init__(self, profile: str) -> None:
        self.profile = VersionProfile.load(profile)
        self.compat = self.profile.compat
        self.runstate = SimpleNamespace(state="running")
        self.ram_blocks: list[RAMBlock] = []
        self.dirty_ring_size = 0


def options(profile: str = "11.1", *, running: bool = False, listening: bool = False) -> MigrationOptions:
    vm: Any = _Vm(profile)
    return MigrationOptions(vm, lambda: running, lambda: listening)


def switch(one: MigrationOptions, *names: str) -> None:
    one.set_capabilities([{"capability": name, "state": True} for name in names])


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("zero-copy-send",), "Zero copy only available for non-compressed non-TLS multifd migration"),
        (("postcopy-preempt",), "Postcopy preempt requires postcopy-ram"),
        (("switchover-ack",), "Capability 'switchover-ack' requires capability 'return-path'"),
        (("x-colo",), "Capability 'x-colo' requires capability 'return-path'"),
        (("dirty-limit",), "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set"),
        (
            ("auto-converge", "dirty-limit"),
            "dirty-limit conflicts with auto-converge either of then available currently",
        ),
        (("multifd", "xbzrle"), "Multifd is not compatible with xbzrle"),
        (("mapped-ram", "xbzrle"), "Mapped-ram migration is incompatible with xbzrle"),
        (("mapped-ram", "postcopy-ram"), "Mapped-ram migration is incompatible with postcopy"),
        (("postcopy-ram", "x-ignore-shared"), "Postcopy is not compatible with ignore-shared"),
        (("background-snapshot", "return-path"), "Background-snapshot is not compatible with return-path"),
    ],
)
def test_what_cannot_be_on_together_changes_nothing(names: tuple[str, ...], text: str) -> None:
    one = options()
    before = dict(one.capabilities)
    with pytest.raises(QemuError) as caught:
        switch(one, "events", *names)
    assert caught.value.desc == text
    assert one.capabilities == before


def test_releases_differ_on_multifd_with_postcopy() -> None:
    switch(options("11.1"), "multifd", "postcopy-ram")
    switch(options("7.2"), "multifd", "postcopy-ram")
    with pytest.raises(QemuError, match=r"^Postcopy is not yet compatible with multifd$"):
        switch(options("10.0"), "multifd", "postcopy-ram")


def test_some_come_too_late_once_a_destination_listens() -> None:
    with pytest.raises(QemuError, match=r"^Multifd must be set before incoming starts$"):
        switch(options(listening=True), "multifd")
    switch(options(listening=True), "xbzrle")


def test_nothing_changes_while_a_migration_runs() -> None:
    with pytest.raises(QemuError, match=r"^There's a migration process in progress$"):
        options(running=True).set_capabilities([])


@pytest.mark.parametrize(
    ("values", "option", "parameter"),
    [
        ({"announce-initial": 100001}, "a value between 0 and 100000", "announce_initial"),
        ({"announce-step": 0}, "a value between 0 and 10000", "announce_step"),
        ({"throttle-trigger-threshold": 0}, "an integer in the range of 1 to 100", "throttle_trigger_threshold"),
        ({"cpu-throttle-increment": 100}, "an integer in the range of 1 to 99", "cpu_throttle_increment"),
        ({"multifd-channels": 0}, "a value between 1 and 255", "multifd_channels"),
        ({"downtime-limit": -1}, "an integer in the range of 0 to (2000 * 1000) ms", "downtime_limit"),
        (
            {"xbzrle-cache-size": 6000}, "a power of two no less than the target page size", "xbzrle_cache_size",
        ),
    ],
)  # fmt: skip
def test_values_out_of_range(values: dict[str, int], option: str, parameter: str) -> None:
    for profile, text in (
        ("11.1", f"Option {next(iter(values))} expects {option}"),
        ("10.0", f"Parameter '{parameter}' expects {option}"),
        ("7.2", f"Parameter '{parameter}' expects {option}"),
    ):
        one = options(profile)
        before = dict(one.parameters)
        with pytest.raises(QemuError) as caught:
            one.set_parameters({"max-bandwidth": 5, **values})
        assert caught.value.desc == text
        assert one.parameters == before


def test_the_highest_throttle_is_not_below_the_first() -> None:
    text = "Option max-cpu-throttle expects an integer in the range of cpu-throttle-initial to 99"
    with pytest.raises(QemuError) as caught:
        options().set_parameters({"max-cpu-throttle": 10})
    assert caught.value.desc == text
    options().set_parameters({"max-cpu-throttle": 10, "cpu-throttle-initial": 10})


def test_negative_sizes_wrap_and_null_is_empty() -> None:
    one = options()
    one.set_parameters({"max-bandwidth": -1, "tls-creds": None})
    assert one.get("max-bandwidth") == (1 << 64) - 1
    assert one.get("tls-creds") == ""


def test_mapped_ram_with_compression_locks_the_parameters() -> None:
    one = options()
    one.set_parameters({"multifd-compression": "zlib"})
    switch(one, "mapped-ram")
    text = r"^Mapped-ram only available for non-compressed non-TLS multifd migration$"
    with pytest.raises(QemuError, match=text):
        one.set_parameters({"multifd-compression": "none"})


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ([("a", "b"), ("a", "c")], "The node name 'a' is mapped twice"),
        ([("a", "b"), ("c", "b")], "The node alias 'b' is used twice"),
        ([("a", "")], "The node alias '' is not well-formed"),
        ([("a", "1 2")], "The node alias '1 2' is not well-formed"),
        ([("a", "b" * 256)], f"The node alias '{'b' * 256}' is longer than 255 bytes"),
    ],
)
def test_bitmap_mappings_are_judged(mapping: list[tuple[str, str]], text: str) -> None:
    nodes = [{"node-name": name, "alias": alias, "bitmaps": []} for name, alias in mapping]
    with pytest.raises(QemuError) as caught:
        options().set_parameters({"block-bitmap-mapping": nodes})
    assert caught.value.desc == f"Invalid mapping given for block-bitmap-mapping: {text}"


def test_memory_whose_accesses_nobody_tells_of_takes_no_background_snapshot(tmp_path: Path) -> None:
    (tmp_path / "ram").write_bytes(bytes(8192))
    one = options()
    store = MappedStore(os.open(tmp_path / "ram", os.O_RDWR))
    one._vm.ram_blocks.append(RAMBlock("ram", 8192, store, share=True, named_file=True))
    if file_system_of(store.fd) == "tmpfs":
        pytest.skip("temporary files are memory here")
    with pytest.raises(QemuError, match=r"^Background-snapshot is not compatible with guest memory configuration$"):
        switch(one, "background-snapshot", "xbzrle")
    switch(one, "x-ignore-shared")
    switch(one, "background-snapshot")
    store.close()


def test_names_of_nodes_and_bitmaps_have_limits_of_their_own() -> None:
    def mapping(node: int, bitmap: int) -> list[dict[str, Any]]:
        return [{"node-name": "n" * node, "alias": "a", "bitmaps": [{"name": "b" * bitmap, "alias": "c"}]}]

    one = options()
    one.set_parameters({"block-bitmap-mapping": mapping(31, 1023)})
    for node, bitmap, words in ((32, 1, "is longer than 31 bytes"), (1, 1024, "is longer than 1023 bytes")):
        with pytest.raises(QemuError, match=words):
            one.set_parameters({"block-bitmap-mapping": mapping(node, bitmap)})
