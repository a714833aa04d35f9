# SPDX-License-Identifier: MIT
"""-fake and FAKEQEMU."""

from __future__ import annotations

import pytest

from fakeqemu.vl.fake import FakeError, clock_rate, settings, texts_of


def test_later_settings_win() -> None:
    assert settings(["profile=7.2,seed=1", "seed=2,,3"]) == {"profile": "7.2", "seed": "2,3"}
    assert settings([""]) == {}


def test_where_the_option_is_found() -> None:
    assert texts_of(["-m", "1", "-fake", "a=1", "--fake", "b=2", "-fake"]) == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nosuch=1", "there is no setting 'nosuch'"),
        ("ram=some", "expects wire or model, not 'some'"),
        ("kvm=1", "expects off or on, not '1'"),
        ("clock=fast", "expects real, scaled:RATE or manual, not 'fast'"),
        ("clock=scaled:0", "expects real"),
        ("control=x", "not emulated"),
        ("seed", "'seed' is no key=value"),
    ],
)
def test_wrong_settings_are_plainly_refused(text: str, said: str) -> None:
    with pytest.raises(FakeError, match=said):
        settings([text])


def test_rates() -> None:
    assert [clock_rate(text) for text in ("real", "manual", "scaled:2.5")] == [1, 0, 2.5]
