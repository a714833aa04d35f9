# SPDX-License-Identifier: MIT
"""Argument checks: texts, paths, order, ranges; every command of every profile has an example that passes."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.qapi.example import NoExample, example
from fakeqemu.qapi.policy import CompatPolicy
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.qapi.schema import QapiSchema, schema_of
from fakeqemu.qapi.visitor import QObjectInputVisitor

NO_BASE = "Deprecated parameter base disabled by policy"
PROFILES = ["7.2", "10.0", "11.1"]


@pytest.fixture
def schema() -> QapiSchema:
    return schema_of(VersionProfile.load("11.1"))


def refusal(
    schema: QapiSchema, command: str, arguments: dict[str, Any], policy: CompatPolicy | None = None
) -> str | None:
    try:
        QObjectInputVisitor(policy).visit_arguments(schema.arguments(command), arguments)
    except QemuError as error:
        return error.desc
    return None


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("block-job-dismiss", {}, "Parameter 'id' is missing"),
        ("block-job-dismiss", {"id": "x", "~bogus": 1}, "Parameter '~bogus' is unexpected"),
        ("block-job-dismiss", {"id": 1}, "Invalid parameter type for 'id', expected: string"),
        ("transaction", {"actions": [{"type": "blockdev-backup", "data": {}}]}, "Parameter 'actions[0].data.device' is missing"),
        ("transaction", {"actions": [None]}, "Invalid parameter type for 'actions[0]', expected: object"),
        ("transaction", {"actions": "x"}, "Invalid parameter type for 'actions', expected: array"),
        ("qmp_capabilities", {"enable": ["bogus"]}, "Parameter 'null' does not accept value 'bogus'"),
        ("qmp_capabilities", {"enable": [1]}, "Invalid parameter type for 'enable[0]', expected: string"),
        ("blockdev-add", {"driver": "copy-on-read", "file": 1.5}, "Invalid parameter type for 'file', expected: BlockdevRef"),
        ("blockdev-add", {"driver": "copy-on-read", "file": {"driver": "blkdebug", "image": {"driver": "blkdebug"}}},
         "Parameter 'file.image.image' is missing"),
        ("blockdev-add", {"driver": "nbd", "server": {"type": "no-such", "host": "x", "port": "x"}},
         "Parameter 'type' does not accept value 'no-such'"),
        ("set-vcpu-dirty-limit", {"dirty-rate": "x"}, "Parameter 'dirty-rate' expects uint64"),
        ("set-vcpu-dirty-limit", {"dirty-rate": 1.0}, "Parameter 'dirty-rate' expects uint64"),
        ("set-vcpu-dirty-limit", {"dirty-rate": True}, "Parameter 'dirty-rate' expects uint64"),
        ("add-fd", {"fdset-id": 2**63}, "Invalid parameter type for 'fdset-id', expected: integer"),
        ("system_reset", {"a": 1}, "Parameter 'a' is unexpected"),
        # the order of the schema, not of the arguments
        ("block-commit", {"speed": "x", "device": 1}, "Invalid parameter type for 'device', expected: string"),
    ],
)  # fmt: skip
def test_refusals(schema: QapiSchema, command: str, arguments: dict[str, Any], text: str) -> None:
    assert refusal(schema, command, arguments) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, None), (255, None), (256, "Parameter 'cpu-throttle-initial' expects uint8_t"),
        (-1, "Parameter 'cpu-throttle-initial' expects uint8_t"), (2**64, "Parameter 'cpu-throttle-initial' expects uint64"),
    ],
)  # fmt: skip
def test_small_unsigned_numbers(schema: QapiSchema, value: int, text: str | None) -> None:
    assert refusal(schema, "migrate-set-parameters", {"cpu-throttle-initial": value}) == text


def test_an_unsigned_number_is_taken_modulo_two_to_the_64(schema: QapiSchema) -> None:
    checked = QObjectInputVisitor().visit_arguments(schema.arguments("migrate-set-parameters"), {"max-bandwidth": -1})
    assert checked == {"max-bandwidth": 2**64 - 1}


def test_the_arguments_are_not_changed(schema: QapiSchema) -> None:
    arguments = {"max-bandwidth": -1}
    QObjectInputVisitor().visit_arguments(schema.arguments("migrate-set-parameters"), arguments)
    assert arguments == {"max-bandwidth": -1}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_command_has_an_example_that_passes(profile: str) -> None:
    loaded = VersionProfile.load(profile)
    schema = schema_of(loaded)
    for command in loaded.keys("commands"):
        type_ = schema.arguments(command)
        arguments = example(type_)
        checked = QObjectInputVisitor().visit_arguments(type_, arguments)
        assert checked.keys() == arguments.keys()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_type_can_be_made(profile: str) -> None:
    """Each member's type exists, each tag is a member, each branch a value of it."""
    loaded = VersionProfile.load(profile)
    schema = schema_of(loaded)
    for name in loaded.keys("schema"):
        if loaded.get("schema", name)["meta-type"] in ("command", "event"):
            continue
        type_ = schema.type(name)
        if type_.kind == "object":
            for member in type_.members:
                assert member.type.kind
            for case in type_.cases:
                assert case in type_.member_names[type_.tag].type.values
                assert type_.variant(case).kind == "object"
        elif type_.kind == "alternate":
            assert type_.choices
        try:
            QObjectInputVisitor().visit(type_, example(type_))
        except NoExample:
            pytest.fail(f"{name} has no smallest value")


@pytest.mark.parametrize(
    ("options", "command", "arguments", "text"),
    [
        ({"deprecated-input": "reject"}, "block-commit", {"device": "x", "base": "y"}, NO_BASE),
        ({"deprecated-input": "crash"}, "block-commit", {"device": "x", "base": "y"}, NO_BASE),
        ({"unstable-input": "reject"}, "migrate-set-capabilities", {"capabilities": [{"capability": "x-colo", "state": True}]},
         "Unstable value x-colo disabled by policy"),
        ({"deprecated-input": "accept"}, "block-commit", {"device": "x", "base": "y"}, None),
        ({"unstable-input": "reject"}, "block-commit", {"device": "x", "base": "y"}, None),
    ],
)  # fmt: skip
def test_policy(
    schema: QapiSchema, options: dict[str, str], command: str, arguments: dict[str, Any], text: str | None
) -> None:
    policy = CompatPolicy()
    policy.set(options)
    assert refusal(schema, command, arguments, policy) == text


def test_policy_hides_output(schema: QapiSchema) -> None:
    policy = CompatPolicy()
    policy.set({"unstable-output": "hide"})
    value = {"x-checkpoint-delay": 1, "downtime-limit": 2}
    assert policy.strip(schema.returns("query-migrate-parameters"), value) == {"downtime-limit": 2}
    policy.set({"unstable-output": "accept"})
    assert policy.strip(schema.returns("query-migrate-parameters"), value) == value
