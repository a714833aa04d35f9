# SPDX-License-Identifier: MIT
"""JSON on the command line that ends too early, or too late: texts as the three releases print them."""

from __future__ import annotations

import pytest

from fakeqemu.error import QemuError
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.vl.json_option import parse_json_option

ONE = "Expecting at most one JSON value"
#: text, what 11.1 says, what 10.0 and 7.2 say
ENDS = [
    ("{bad", "1:2: JSON parse error, expecting key", "JSON parse error, invalid keyword 'bad'"),
    ('{"a":tru', "1:6: JSON parse error, invalid keyword 'tru'", "JSON parse error, invalid keyword 'tru'"),
    ('{"a":1', "1:8: JSON parse error, premature end of input", "JSON parse error, premature EOI"),
    ('{"a"', "1:5: JSON parse error, premature end of input", "JSON parse error, premature EOI"),
    ('{"x', "1:2: JSON parse error, stray '\"x'", "JSON parse error, stray '\"x'"),
    ('{"a":1.', "1:6: JSON parse error, stray '1.'", "JSON parse error, stray '1.'"),
    ("{} x", ONE, ONE),
    ("{} {", ONE, ONE),
    ("{}}", ONE, ONE),
    ("{} @", ONE, ONE),
]


@pytest.mark.parametrize(("text", "newer", "older"), ENDS)
def test_the_end_of_the_text_ends_its_last_token(text: str, newer: str, older: str) -> None:
    for name, said in (("11.1", newer), ("10.0", older), ("7.2", older)):
        with pytest.raises(QemuError) as raised:
            parse_json_option(VersionProfile.load(name), text)
        assert raised.value.desc == said, name
