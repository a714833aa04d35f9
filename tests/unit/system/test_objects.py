# SPDX-License-Identifier: MIT
"""iothreads, secrets, randomness: made and taken away, refused in QEMU's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.system.iothread import query_iothreads
from fakeqemu.system.objects import Secret
from fakeqemu.system.user_creatable import object_add, object_del

from .conftest import MakeMachine


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"qom-type": "iothread", "id": "a b"}, "Parameter 'id' expects an identifier"),
        ({"qom-type": "authz-listfile", "id": "x"}, "invalid object type: authz-listfile"),
        ({"qom-type": "container", "id": "x"}, "object type 'container' isn't supported by object-add"),
        ({"qom-type": "secret_common", "id": "x"}, "object type 'secret_common' is abstract"),
        (
            {"qom-type": "iothread", "id": "x", "poll-max-ns": -1},
            "poll-max-ns value must be in range [0, 9223372036854775807]",
        ),
        ({"qom-type": "iothread", "id": "x", "poll-weight": 64}, "poll-weight value must be in range [0, 63]"),
        (
            {"qom-type": "iothread", "id": "x", "thread-pool-min": 5, "thread-pool-max": 4},
            "bad thread-pool-min/thread-pool-max values",
        ),
        ({"qom-type": "secret", "id": "x"}, "Either 'file' or 'data' must be provided"),
        ({"qom-type": "secret", "id": "x", "data": "a", "file": "b"}, "'file' and 'data' are mutually exclusive"),
        ({"qom-type": "secret", "id": "x", "data": "a", "keyid": "k"}, "No secret with id 'k'"),
        (
            {"qom-type": "secret", "id": "x", "data": "!!", "format": "base64"},
            "Base64 data contains invalid characters",
        ),
        (
            {"qom-type": "secret", "id": "x", "file": "/nosuch"},
            "Unable to read /nosuch: Failed to open file “/nosuch”: No such file or directory",
        ),
        (
            {"qom-type": "rng-random", "id": "x", "filename": "/nosuch"},
            "Could not open '/nosuch': No such file or directory",
        ),
    ],
)
def test_refusals_leave_nothing(make_machine: MakeMachine, options: dict[str, Any], text: str) -> None:
    vm = make_machine("none", files=True)
    with pytest.raises(QemuError) as refused:
        object_add(vm, options)
    assert refused.value.desc == text
    assert vm.qom.objects.children == {}


def test_a_type_without_a_model_is_said_to_be_not_emulated(make_machine: MakeMachine) -> None:
    with pytest.raises(NotEmulated):
        object_add(make_machine("none"), {"qom-type": "throttle-group", "id": "x"})


def test_an_id_is_taken_once_and_freed_by_deletion(make_machine: MakeMachine) -> None:
    vm = make_machine("none")
    object_add(vm, {"qom-type": "iothread", "id": "x"})
    with pytest.raises(QemuError, match=r"^attempt to add duplicate property 'x' to object"):
        object_add(vm, {"qom-type": "secret", "id": "x", "data": "a"})
    assert vm.qom.objects.children["x"].type_name == "iothread"
    object_del(vm, "x")
    with pytest.raises(QemuError, match=r"^object 'x' not found$"):
        object_del(vm, "x")
    object_add(vm, {"qom-type": "secret", "id": "x", "data": "a"})


@pytest.mark.parametrize(("profile", "factor"), [("11.1", 2), ("10.0", 0)])
def test_iothreads_have_threads_and_defaults(make_machine: MakeMachine, profile: str, factor: int) -> None:
    vm = make_machine("none", profile=profile)
    for name in ("i1", "i2"):
        object_add(vm, {"qom-type": "iothread", "id": name})
    shown = query_iothreads(vm)
    assert sorted(entry["id"] for entry in shown) == ["i1", "i2"]
    assert len({entry["thread-id"] for entry in shown}) == 2
    assert shown[0]["poll-grow"] == factor
    assert ("poll-weight" in shown[0]) == (profile == "11.1")


def test_settings_of_an_iothread_can_change_but_not_to_nonsense(make_machine: MakeMachine) -> None:
    thread = object_add(make_machine("none"), {"qom-type": "iothread", "id": "x"})
    thread.set("poll-max-ns", 1000)
    assert thread.get("poll-max-ns") == 1000
    with pytest.raises(QemuError, match=r"^bad thread-pool-min/thread-pool-max values$"):
        thread.set("thread-pool-max", 0)
    assert thread.get("thread-pool-max") == 64


def test_secrets_keep_their_content(make_machine: MakeMachine, tmp_path: Path) -> None:
    vm = make_machine("none")
    path = tmp_path / "s"
    path.write_bytes(b"\0binary")
    for name, options, content in (
        ("a", {"data": "let me in"}, b"let me in"),
        ("b", {"data": "YWJj", "format": "base64"}, b"abc"),
        ("c", {"file": str(path)}, b"\0binary"),
    ):
        made = object_add(vm, {"qom-type": "secret", "id": name, **options})
        assert isinstance(made, Secret)
        assert made.content == content
