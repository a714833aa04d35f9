# SPDX-License-Identifier: MIT
"""Credentials and authorization objects: taken, refused, and asked for again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from fakeqemu.authz.base import QAuthZ
from fakeqemu.crypto.tlscredspsk import TLSCredsPSK
from fakeqemu.error import QemuError
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine
from tests.unit.crypto.folders import Folders


@pytest.fixture
def machine() -> SimMachine:
    return SimMachine(SimWorld(1), profile="11.1")


def add(machine: SimMachine, **options: Any) -> Any:
    machine.execute("object-add", id="x", **options)
    return machine.vm.qom.objects.children["x"]


#: as 11.1.2 says it; tests/conformance/test_tls_credentials.py asks a real one about all of them
REFUSED = {
    "no-dir": "Missing 'dir' property value",
    "no-folder": "Unable to access credentials /nosuch/ca-cert.pem: No such file or directory",
    "server-authority-only": "Missing server cert '$D/server-cert.pem' & key '$D/server-key.pem'",
    "server-no-server-key.pem": "Cert '$D/server-cert.pem' without corresponding key '$D/server-key.pem'",
    "key-of-another": "Cannot set certificate '$D/server-cert.pem' & key '$D/server-key.pem': "
    "The certificate and the given key do not match.",
    "password-wrong": "Unable to import private key $D/server-key.pem",
    "password-nosuch": "No secret with id 'nosuch'",
    "psk-server-user-bob": "username should not be set when endpoint=server",
    "psk-client-user-eve": "Username eve not found in PSK file $D/keys.psk",
    "psk-client-short": "Cannot set PSK client credentials: The request is invalid.",
    "psk-client-no-hex": "Cannot set PSK client credentials: Error in parsing.",
}


def test_what_cannot_be_used_is_refused_and_leaves_nothing(machine: SimMachine, tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    for request in folders.preparation():
        machine.send(request)
    before = list(machine.vm.qom.objects.children)
    for name, desc in REFUSED.items():
        with pytest.raises(QemuError) as refused:
            machine.execute("object-add", **folders.questions[name])
        assert refused.value.desc == desc.replace("$D", str(tmp_path / name)), name
        assert list(machine.vm.qom.objects.children) == before


def test_a_deprecated_file_is_warned_of_once(machine: SimMachine, tmp_path: Path) -> None:
    (tmp_path / "dh-params.pem").write_text("x")
    for _ in range(2):
        with pytest.raises(QemuError, match="Unable to load DH parameters"):
            add(machine, qom_type="tls-creds-anon", endpoint="server", dir=str(tmp_path))
    assert len(machine.host.log_lines) == 1


def test_a_server_reads_its_keys_anew(machine: SimMachine, tmp_path: Path) -> None:
    path = tmp_path / "keys.psk"
    path.write_text("qemu:00112233\nnobody:zz\n")
    creds = add(machine, qom_type="tls-creds-psk", endpoint="server", dir=str(tmp_path))
    assert isinstance(creds, TLSCredsPSK)
    assert creds.users() == [("qemu", bytes.fromhex("00112233"))]
    path.write_text("bob:44556677\n")
    assert creds.users() == [("bob", bytes.fromhex("44556677"))]


def test_properties_read_as_they_were_set_and_have_no_effect_later(machine: SimMachine) -> None:
    add(machine, qom_type="tls-creds-anon", endpoint="server")
    path = "/objects/x"
    assert machine.execute("qom-get", path=path, property="endpoint") == "server"
    machine.execute("qom-set", path=path, property="dir", value="/nosuch")
    assert machine.execute("qom-get", path=path, property="dir") == "/nosuch"
    with pytest.raises(QemuError, match="Parameter 'endpoint' does not accept value 'both'"):
        machine.execute("qom-set", path=path, property="endpoint", value="both")


def test_one_name_may() -> None:
    judge = add(SimMachine(SimWorld(1)), qom_type="authz-simple", identity="CN=a")
    assert isinstance(judge, QAuthZ)
    assert judge.is_allowed("CN=a")
    assert not judge.is_allowed("CN=ab")


@pytest.mark.parametrize(
    ("rules", "policy", "name", "allowed"),
    [
        ([], "deny", "a", False),
        ([], "allow", "a", True),
        ([{"match": "a", "policy": "allow"}], "deny", "a", True),
        ([{"match": "a", "policy": "allow"}], "deny", "b", False),
        ([{"match": "a", "policy": "deny"}, {"match": "*", "policy": "allow", "format": "glob"}], "deny", "a", False),
        ([{"match": "a", "policy": "deny"}, {"match": "*", "policy": "allow", "format": "glob"}], "deny", "b", True),
        ([{"match": "a*", "policy": "allow"}], "deny", "ab", False),
        ([{"match": "a?c", "policy": "allow", "format": "glob"}], "deny", "abc", True),
        ([{"match": "[ab]", "policy": "allow", "format": "glob"}], "deny", "a", False),
        ([{"match": "[ab]", "policy": "allow", "format": "glob"}], "deny", "[ab]", True),
    ],
)
def test_the_first_rule_that_fits_decides(
    machine: SimMachine, rules: list[dict[str, str]], policy: str, name: str, allowed: bool
) -> None:
    judge = add(machine, qom_type="authz-list", rules=rules, policy=policy)
    assert isinstance(judge, QAuthZ)
    assert judge.is_allowed(name) == allowed
