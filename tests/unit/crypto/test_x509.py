# SPDX-License-Identifier: MIT
"""What is read of a certificate, and which hosts it is for."""

from __future__ import annotations

import datetime

import pytest

pytest.importorskip("cryptography")

from fakeqemu.crypto import x509
from tests.unit.crypto.pki import CLIENT_AUTH, SERVER_AUTH, Identity, make, make_ca


def read(identity: Identity) -> x509.Certificate:
    (certificate,) = x509.read_certificates(identity.pem)
    return certificate


def test_what_a_certificate_says() -> None:
    ca = make_ca()
    made = make("a name", ca, purposes=(SERVER_AUTH, CLIENT_AUTH), organization="Fake, QEMU")
    certificate = read(made)
    assert certificate.subject_name == r"O=Fake\, QEMU,CN=a name"
    assert certificate.issuer == read(ca).subject != certificate.subject
    assert certificate.is_ca is False
    assert certificate.usage == x509.USAGE_DIGITAL_SIGNATURE
    assert certificate.usage_critical
    assert certificate.purposes == [x509.PURPOSE_SERVER, x509.PURPOSE_CLIENT]
    assert not certificate.purposes_critical
    until: datetime.datetime = made.certificate.not_valid_after_utc
    assert certificate.not_after == until.strftime("%Y%m%d%H%M%S")


def test_what_an_authority_says() -> None:
    certificate = read(make_ca())
    assert certificate.is_ca
    assert certificate.usage is not None
    assert certificate.usage & x509.USAGE_CERTIFICATE_SIGN
    assert certificate.purposes == []


def test_what_is_not_said_is_not_known() -> None:
    certificate = read(make("x", ca=None, usages=None))
    assert certificate.is_ca is None
    assert certificate.usage is None


@pytest.mark.parametrize(
    ("hosts", "asked", "matches"),
    [
        (("localhost",), "localhost", True),
        (("localhost",), "LocalHost", True),
        (("localhost",), "localhost.example.org", False),
        (("*.example.org",), "a.example.org", True),
        (("*.example.org",), "a.b.example.org", False),
        (("*.example.org",), "example.org", False),
        (("127.0.0.1",), "127.0.0.1", True),
        (("127.0.0.1",), "127.0.0.2", False),
        (("::1",), "0:0:0:0:0:0:0:1", True),
        (("other",), "common-name", False),  # it counts where no other name is given
        ((), "common-name", True),
        ((), "other", False),
    ],
)
def test_hosts(hosts: tuple[str, ...], asked: str, matches: bool) -> None:
    assert read(make("common-name", hosts=hosts)).matches(asked) == matches


def test_a_file_may_hold_several_and_other_things() -> None:
    first, second = make("first"), make("second")
    found = x509.read_certificates(b"remarks\n" + first.pem + first.key_pem() + second.pem)
    assert [one.subject_name for one in found] == ["CN=first", "CN=second"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "No certificate was found."),
        (b"garbage\n", "No certificate was found."),
        (b"-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n", "Base64 unexpected header error."),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ASN1 parser: Error in TAG."),
    ],
)
def test_what_is_no_certificate(data: bytes, why: str) -> None:
    with pytest.raises(x509.BadCertificate) as caught:
        x509.read_certificates(data)
    assert str(caught.value) == why


def test_a_certificate_cut_or_changed_anywhere_is_read_or_refused() -> None:
    """Nothing else happens: what comes from the other side may be anything."""
    der = read(make("name", make_ca(), hosts=("localhost",), purposes=(SERVER_AUTH,))).der
    for at in range(len(der)):
        for data in (der[:at], der[:at] + bytes((der[at] ^ 0xFF,)) + der[at + 1 :]):
            try:
                x509.Certificate(data).matches("localhost")
            except x509.BadCertificate:
                pass
