# SPDX-License-Identifier: MIT
"""What is said of a failure at each fault point of the core: QEMU's words, as each release has them.

11.1 has a chain of reasons in error-desc, 10.0 and 7.2 print a line. Words that are the same are written once.
"""

from __future__ import annotations

import pytest

from fakeqemu.faults.injector import Rule
from tests.sim._migrations import KINDS, Kind, Run

LOAD = "load of migration failed: "
HOOK = "post load hook failed for: configuration, version_id: 1, minimum_version: 0"
HOTPLUG = "Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices"

#: point, kind, end of 11.1's error-desc, line of older releases
LOADED = [
    ("fake_loadvm_header", "plain", "Not a migration stream, magic: 5145564d != 5145564d", "Not a migration stream"),
    ("fake_loadvm_configuration", "plain", "Configuration section missing, 7 != 7", "Configuration section missing"),
    ("fake_configuration_post_load", "plain", f"{HOOK}: Machine type received is 'none' and local is 'none'",
     "Machine type received is 'none' and local is 'none'"),
    ("fake_configuration_validate_capabilities", "plain", f"{HOOK}: Failed to validate capabilities",
     "Capability x-ignore-shared is off, but received capability is on"),
    ("fake_vmstate_post_load", "plain", f"{HOOK}, ret: -5", ""),
    ("vmstate_load_state", "plain", "configuration: incoming version_id 0 is too new for local version_id 1",
     "configuration: incoming version_id 0 is too new for local version_id 1"),
    ("vmstate_load_state_field", "plain", "Failed to load element of type uint32 for len", "Failed to load configuration:len"),
    ("qemu_loadvm_state_section", "plain", "Unknown section type 1", "Unknown savevm section type 1"),
    ("qemu_loadvm_state_section_startfull", "plain", f"Unknown section or instance 'ram' 0. {HOTPLUG}",
     f"Unknown savevm section or instance 'ram' 0. {HOTPLUG}"),
    ("fake_loadvm_version", "plain", "unsupported version 4 for 'ram' v4", "savevm: unsupported version 4 for 'ram' v4"),
    ("fake_check_section_footer", "plain", "Section footer error, section_id: 1", "Missing section footer for ram"),
    ("qemu_loadvm_state_section_command", "return-path", "MIG_CMD 0x1 unknown (len 0x0)", "MIG_CMD 0x1 unknown (len 0x0)"),
    ("loadvm_process_command", "return-path", "OPEN_RETURN_PATH received with bad length - expecting 0, got 0",
     "OPEN_RETURN_PATH received with bad length - expecting 0, got 0"),
    ("loadvm_process_command_ping", "return-path", "CMD_PING (0x1) received with no return path",
     "CMD_PING (0x1) received with no return path"),
]  # fmt: skip

#: point, kind, what all releases print; the chain has a number only
PRINTED = [
    ("fake_parse_ramblocks", "plain", 'Unknown ramblock "ram", cannot accept migration'),
    ("fake_qemu_ram_resize", "plain", "Size mismatch: ram: 0x80000 != 0x80000: Input/output error"),
    ("ram_load_loop", "plain", "Illegal RAM offset 0"),
    ("migrate_global_state_post_load", "plain", "invalid parameter value: running"),
]

#: point, error-desc of 11.1, 10.0 and 7.2, what 7.2 prints
SAVED: list[tuple[str, dict[str, str | None], list[str]]] = [
    ("savevm_section_start", {"11.1": "Channel error: Input/output error", "10.0": "Channel error: Input/output error",
                              "7.2": None}, []),
    ("ram_save_complete", {"11.1": "Failed to save iterable device state: Channel error: Input/output error",
                           "10.0": "Channel error: Input/output error", "7.2": None}, []),
    ("vmstate_save_state_top", {"11.1": "pre-save failed: timer", "10.0": "pre-save failed: timer", "7.2": None},
     ["pre-save failed: timer"]),
    ("migration_completion_vm_stop", {"11.1": "Failed to stop the VM: Input/output error",
                                      "10.0": "Error in migration completion: Input/output error", "7.2": None}, []),
    ("migration_block_activation", {"11.1": "Block inactivate failed during switchover",
                                    "10.0": "Error in migration completion: Bad address", "7.2": None},
     ["qemu_savevm_state_complete_precopy_non_iterable: bdrv_inactivate_all() failed (-5)"]),
]  # fmt: skip


def failing(name: str, side: str, rule: Rule) -> Run:
    """A migration of a kind with one failure."""
    run = Run(next(kind for kind in KINDS if kind.name == name))
    run.injectors[side].add(rule)
    run.go()
    run.check()
    assert len(run.injectors[side].injected) == 1
    return run


@pytest.mark.parametrize(("point", "kind", "chain", "line"), LOADED, ids=lambda value: str(value)[:40])
def test_a_load_says_why_it_has_failed(point: str, kind: str, chain: str, line: str) -> None:
    run = failing(f"{kind}-11.1", "destination", Rule(point))
    error = run.destination.vm.migration.incoming.query()["error-desc"]  # type: ignore[union-attr]
    assert error.startswith(LOAD)
    assert error.endswith(f": {chain}")
    for release in ("10.0", "7.2"):
        run = failing(f"{kind}-{release}", "destination", Rule(point))
        assert run.destination.host.log_lines[:-1] == ([line] if line else [])
        assert run.destination.host.log_lines[-1].startswith(LOAD)


@pytest.mark.parametrize(("point", "kind", "line"), PRINTED, ids=lambda value: str(value)[:40])
def test_what_handlers_and_hooks_find_is_printed(point: str, kind: str, line: str) -> None:
    for release in ("11.1", "10.0", "7.2"):
        run = failing(f"{kind}-{release}", "destination", Rule(point))
        assert run.destination.host.log_lines[0] == line


@pytest.mark.parametrize(("point", "told", "printed"), SAVED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_source_says_why_it_has_failed(point: str, told: dict[str, str | None], printed: list[str]) -> None:
    match = {"phase": "part"} if point == "savevm_section_start" else {}
    for release, text in told.items():
        run = failing(f"plain-{release}", "source", Rule(point, match=match))
        assert run.source_status == "failed"
        error = run.source.vm.migration.error
        assert (None if error is None else error.desc) == text
        if release == "7.2":
            assert [line for line in run.source.host.log_lines if "SaveStateEntry" not in line] == printed


def test_a_page_that_is_not_kept_goes_as_a_whole() -> None:
    kind: Kind = next(kind for kind in KINDS if kind.name == "xbzrle")
    run = Run(kind)
    run.injectors["source"].add(Rule("migration_pagecache_insert", times=None))
    run.go()
    run.check()
    assert run.source_status == "completed"
    cache = run.source.execute("query-migrate")["xbzrle-cache"]
    assert (cache["pages"], cache["cache-miss"] > 0) == (0, True)
