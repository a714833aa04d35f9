# SPDX-License-Identifier: MIT
"""Folders of certificates and keys, good and bad, given to fakeqemu and to a real QEMU: the same words of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench._real import fake_qemu, real_qemu
from tests.conformance.test_machine_answers import answers

pytest.importorskip("cryptography")

pytestmark = pytest.mark.real_qemu

ARGUMENTS = ["-machine", "none", "-nodefaults"]


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
def test_credentials_are_taken_and_refused_as_by_the_real_one(version: str, tmp_path: Path) -> None:
    from tests.unit.crypto.folders import Folders

    real = real_qemu(version)
    if real is None:
        pytest.skip(f"no real QEMU {version}")
    folders = Folders(tmp_path)
    asked: list[dict[str, Any]] = folders.preparation()
    for question in folders.questions.values():
        asked.append({"execute": "object-add", "arguments": question})
        asked.append({"execute": "object-del", "arguments": {"id": "x"}})
    expected = answers(real, ARGUMENTS, asked)
    with fake_qemu(version) as fake:
        found = answers(fake, ARGUMENTS, asked)
    first = len(folders.preparation())
    names = enumerate(folders.questions)
    different = {name: (found[i], expected[i]) for at, name in names if found[i := first + 2 * at] != expected[i]}
    assert not different
    assert found == expected
