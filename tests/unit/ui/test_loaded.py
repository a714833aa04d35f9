# SPDX-License-Identifier: MIT
"""What nobody asks for is not loaded."""

from __future__ import annotations

import pytest

from tests.tidy.test_start_path import BARE, WITH_DEVICES, loaded_at_the_greeting

NEGOTIATION = b'{"execute": "qmp_capabilities"}'


@pytest.mark.parametrize("arguments", [BARE, WITH_DEVICES], ids=["bare", "devices"])
def test_no_display_is_loaded_where_none_is_wanted(arguments: list[str]) -> None:
    loaded = loaded_at_the_greeting(arguments)
    assert not [name for name in loaded if name.startswith(("fakeqemu.ui", "fakeqemu.vl.display_options"))]


def test_a_machine_without_vnc_says_so_without_loading_it() -> None:
    loaded = loaded_at_the_greeting(BARE, NEGOTIATION, b'{"execute": "query-vnc"}')
    assert [name for name in loaded if name.startswith("fakeqemu.ui")] == ["fakeqemu.ui", "fakeqemu.ui.qmp_cmds"]


def test_tls_is_loaded_when_credentials_are_given() -> None:
    loaded = loaded_at_the_greeting([*BARE, "-vnc", "none"], NEGOTIATION)
    assert "fakeqemu.ui.vnc" in loaded
    assert not [name for name in loaded if name.startswith("fakeqemu.crypto")]
