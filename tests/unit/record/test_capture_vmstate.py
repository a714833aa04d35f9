# SPDX-License-Identifier: MIT
"""What a start reads of the state of devices, beside the state itself."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.record.capture_vmstate import names_of_sections

STATES = {
    "good": {"q35": {"sections": [{"name": "a", "instance": 1, "version": 2, "data": "AA==", "vmdesc": {"x": 1}}]}},
    "refused": {"pc": {"error": "no"}, "rich": {"crash": True}},
}


def test_sections_keep_name_and_numbers_and_refusals_their_reason() -> None:
    assert names_of_sections(STATES) == {
        "good": {"q35": {"sections": [{"name": "a", "instance": 1, "version": 2}]}},
        "refused": {"pc": {"error": "no"}, "rich": {"crash": True}},
    }


@pytest.mark.parametrize("name", ["7.2", "10.0", "11.1"])
def test_profiles_name_the_sections_that_they_have_the_state_of(name: str) -> None:
    profile = VersionProfile.load(name)
    states = {key: profile.get("device-vmstate", key) for key in profile.keys("device-vmstate")}
    told = {key: profile.get("device-sections", key) for key in profile.keys("device-sections")}
    assert told == names_of_sections(states) != {}
