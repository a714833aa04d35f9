# SPDX-License-Identifier: MIT
"""Commands of migration where none runs, asked of fakeqemu and of a real QEMU in the same order: the same answers.

`questions_migration_hmp.txt` is the human monitor, `_addresses` and `_incoming` are what is no address, `questions_migration.txt`
the rest.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance.test_machine_answers import answers, questions

pytestmark = pytest.mark.real_qemu


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("migration", "-M q35 -m 16 -nodefaults"),
        ("migration_hmp", "-M none"),
        ("migration_addresses", "-M none"),
        ("migration_incoming", "-M none -incoming defer"),
    ],
)
def test_answers_are_those_of_a_real_qemu(version: str, name: str, arguments: str, tmp_path: Path) -> None:
    if version == "7.2" and name in ("migration_addresses", "migration_incoming"):
        pytest.skip("that release looks at an address when the migration has begun")
    real = need_real_qemu(version)
    directory = tmp_path / "d"
    found = []
    with fake_qemu(version) as fake:
        for who, emulator in (("real", real), ("fake", fake)):
            directory.mkdir()
            found.append(answers(emulator, arguments.split(), questions(name, directory)))
            directory.rename(tmp_path / who)
    asked = questions(name, directory)
    different = [
        f"{json.dumps(question)}\n  real {json.dumps(theirs)[:600]}\n  fake {json.dumps(ours)[:600]}"
        for question, theirs, ours in zip(asked, *found, strict=True)
        if ours != theirs
    ]
    assert not different, "\n".join(different)
