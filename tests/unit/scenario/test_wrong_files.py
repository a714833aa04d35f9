# SPDX-License-Identifier: MIT
"""Wrong scenario files: each is told with the line and the field."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

import fakeqemu.scenario
from fakeqemu.error import QemuError
from fakeqemu.scenario.load import load, parse

#: text, line, field, a part of what is said about it
WRONG = [
    ('nam = "x"', 1, "nam", "not permitted"),
    ("name = 7", 1, "name", "valid string"),
    ('\n\nguest = "busy"', 3, "guest", "dictionary"),
    ('[guest]\ndirty-rate = "fast"', 2, "guest.dirty-rate", "such as 64M"),
    ("[guest]\n\nworking-set = -1", 3, "guest.working-set", "greater than or equal to 0"),
    ("[guest]\ndirty-rate = 1.5", 2, "guest.dirty-rate", "valid integer"),
    ("[guest]\ndirty_rat = 0", 2, "guest.dirty_rat", "not permitted"),
    ("[[guest.phases]]\ndirty-rate = 0", 1, "guest.phases[0].at-ms", "required"),
    ('[[guest.phases]]\nat-ms = "soon"', 2, "guest.phases[0].at-ms", "valid number"),
    ("[guest]\n[[guest.phases]]\nat-ms = 9\n[[guest.phases]]\nat-ms = 5", 2, "guest.phases", "order of their times"),
    ('[[rules]]\nfail = "EIO"', 1, "rules[0].where", "required"),
    ('[[rules]]\nwhere = "vmstate_store"\nfail = "EIO"', 2, "rules[0].where", "no fault point 'vmstate_store'"),
    ('[[rules]]\nwhere = "vmstate_*"\nfail = "EOOPS"', 3, "rules[0].fail", "name of an errno"),
    ('[[rules]]\nwhere = "vmstate_load"', 1, "rules[0]", "exactly one of fail, delay-ms, stall, corrupt, close, kill"),
    ('[[rules]]\nwhere = "vmstate_load"\nfail = "EIO"\nkill = true', 1, "rules[0]", "exactly one of"),
    ('[[rules]]\nwhere = "vmstate_load"\nstall = false', 3, "rules[0].stall", "should be True"),
    ('[[rules]]\nwhere = "vmstate_save"\nstall = true', 1, "rules[0]", "nothing can wait at 'vmstate_save'"),
    ('[[rules]]\nwhere = "vmstate_load"\ncorrupt = -1', 3, "rules[0].corrupt", "greater than or equal to 0"),
    ('[[rules]]\nwhere = "vfio_pci_reset"\ncorrupt = 0', 1, "rules[0]", "no bytes follow at 'vfio_pci_reset'"),
    ('[[rules]]\nwhere = "migration_fd_*"\nclose = true', 1, "rules[0]", "there is no connection at 'migration_fd_*'"),
    (
        '[[rules]]\nwhere = "fake_channel_write"\nmatch = { position = ">=1k" }\nkill = true',
        3, "rules[0].match", "'>=1k' compares with no number",
    ),
    ('[[rules]]\nwhere = "vmstate_load"\nkill = true\ntext = "x"', 1, "rules[0]", "text goes with fail"),
    ('[[rules]]\nwhere = "vmstate_load"\nfail = "EIO"\ntimes = 0', 4, "rules[0].times", "greater than or equal to 1"),
    ('[[rules]]\nwhere = "vmstate_load"\nfail = "EIO"\nprobability = 2', 4, "rules[0].probability", "less than or equal"),
    ('[[rules]]\nwhere = "vmstate_load"\nfail = "EIO"\nafter = "1"', 4, "rules[0].after", "valid integer"),
    (
        '[[rules]]\nwhere = "*"\nfail = "EIO"\n[[rules]]\nwhere = "vmstate_load"\nmatch = { di = "timer" }\nkill = true',
        6, "rules[1].match", "has no field 'di', only: id",
    ),
    (
        '[[rules]]\nwhere = "*"\nname = "a"\nkill = true\n[[rules]]\nwhere = "*"\nname = "a"\nkill = true',
        1, "rules", "two rules are named 'a'",
    ),
    ("[[links]]\nlatency-ms = 1\n[[links]]\nlatency-ms = -1", 4, "links[1].latency-ms", "greater than or equal to 0"),
    ('[[links]]\nlatency-ms = 1\ndirection = "up"', 3, "links[0].direction", "'read', 'write' or 'both'"),
    ("[[links]]\nbandwidth = 0", 2, "links[0].bandwidth", "greater than 0"),
    ('[[links]]\nchannel = "*"', 1, "links[0]", "at least one fault"),
    ('[[answers]]\ncommand = "stop"', 1, "answers[0]", "at least one of delay-ms, stall, error, return"),
    ('[[answers]]\ncommand = "stop"\nerror = "x"\nreturn = 5', 1, "answers[0]", "not both"),
    ("[[steps]]\nkill = true", 1, "steps[0]", "exactly one of at-ms, on, event, command"),
    ('[[steps]]\nat-ms = 5\non = "x"\nkill = true', 3, "steps[0].on", "no trace event 'x'"),
    ('[[steps]]\nat-ms = 5\nevent = "STOP"\nkill = true', 1, "steps[0]", "exactly one of"),
    ("[[steps]]\nat-ms = 5", 1, "steps[0]", "does something, such as release, guest"),
    ('[[steps]]\nat-ms = 5\nguest = "dance"', 3, "steps[0].guest", "'panic', 'crash-dump'"),
    ('[[steps]]\nat-ms = 5\nrelease = "held"', 1, "steps", "nothing is named 'held'"),
    ('[[steps]]\ncommand = "stop"\nmatch = { a = 1 }\nkill = true', 1, "steps[0]", "match goes with on and event"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "field", "said"), WRONG, ids=[f"{w[2]}-{i}" for i, w in enumerate(WRONG)])
def test_a_wrong_file_is_told_with_line_and_field(text: str, line: int, field: str, said: str) -> None:
    with pytest.raises(QemuError) as refused:
        parse(text, "wrong.toml")
    first = refused.value.desc.splitlines()[0]
    assert first.startswith(f"scenario 'wrong.toml': line {line}: {field}: ")
    assert said in first


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ('name = "x"\nrules = [', "a.toml", 2),
        ('name = "x"\nname = "y"', "a.toml", 2),
        ('{\n  "name": "x",\n  "rules": [}\n', "a.json", 3),
    ],
)
def test_what_is_no_toml_or_json_is_told_with_its_line(text: str, path: str, line: int) -> None:
    with pytest.raises(QemuError, match=rf"^scenario '{path}': line {line}: "):
        parse(text, path)


def test_several_things_are_told_in_the_order_of_the_file() -> None:
    text = '[[rules]]\nwhere = "x"\nkill = true\n[[links]]\nbandwidth = "much"\n[guest]\nsleeps = true'
    with pytest.raises(QemuError) as refused:
        parse(text, "a.toml")
    assert [line.split(": ")[1:3] for line in refused.value.desc.splitlines()] == [
        ["line 2", "rules[0].where"], ["line 5", "links[0].bandwidth"], ["line 7", "guest.sleeps"],
    ]  # fmt: skip


def test_lines_of_json() -> None:
    text = textwrap.dedent("""\
        {
          "guest": {"dirty-rate": "1M",
                    "phases": [
                      {"at-ms": 1},
                      {"at-ms": 2, "dirty-rate": "x\\"}"}
                    ]}
        }""")
    with pytest.raises(QemuError, match=r"^scenario 'a.json': line 5: guest.phases\[1\].dirty-rate: "):
        parse(text, "a.json")


def test_values_over_many_lines_do_not_confuse_the_count_of_lines() -> None:
    text = 'description = """\n[[rules]]\nx = 1\n"""\nguest.phases = [\n  { at-ms = 1 }, # ]\n  { at-ms = 2 },\n]\n'
    text += "[[links]]\nlatency = 1"
    with pytest.raises(QemuError, match=r"^scenario 'a.toml': line 10: links\[0\].latency: "):
        parse(text, "a.toml")


def test_lines_of_yaml() -> None:
    pytest.importorskip("yaml")
    with pytest.raises(QemuError, match=r"^scenario 'a.yaml': line 3: rules\[0\].fail: "):
        parse("rules:\n- where: vmstate_load\n  fail: EOOPS\n", "a.yaml")
    with pytest.raises(QemuError, match=r"^scenario 'a.yaml': line 2: "):
        parse("rules:\n\t- where: x\n", "a.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match=r"^scenario '.*none.toml': No such file or directory$"):
        load(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(QemuError, match=r"this is no text in UTF-8$"):
        load(str(tmp_path / "binary.toml"))


def test_what_is_shown_to_newcomers_is_right() -> None:

    shown = fakeqemu.scenario.__doc__ or ""
    example = textwrap.dedent(
        "".join(line + "\n" for line in shown.splitlines() if line.startswith("    ") or not line)
    )
    example = example.replace("name of a stall", "held").replace(
        'where = "vmstate_load"', 'where = "vmstate_load"\nname = "held"'
    )
    assert len(parse(example, "docstring.toml").steps) == 1
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert len(parse(block, "readme.toml").rules) == 1
