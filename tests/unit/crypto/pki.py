# SPDX-License-Identifier: MIT
"""Certificates made for a test, in the folders and under the names in which QEMU looks for them.

Keys are of elliptic curves, which are made in no time.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

DAY = datetime.timedelta(days=1)
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH

#: names of the bits of a key's usage, as x509.KeyUsage wants them
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
    "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, password: bytes | None = None) -> bytes:
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password)
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def make(
    common_name: str,
    issuer: Identity | None = None,
    *,
    ca: bool | None = False,
    hosts: Sequence[str] = (),
    usages: Sequence[str] | None = ("digital_signature",),
    usages_critical: bool = True,
    purposes: Sequence[ObjectIdentifier] = (),
    purposes_critical: bool = False,
    from_days: int = -1,
    until_days: int = 30,
    organization: str | None = None,
) -> Identity:
    """A certificate, of `issuer` or of itself. `ca`, `usages` None: without the extension; days count from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    name = x509.Name(attributes)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer is not None else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + from_days * DAY)
        .not_valid_after(now + until_days * DAY)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if usages is not None:
        usage = x509.KeyUsage(**{one: one in usages for one in _USAGES})
        builder = builder.add_extension(usage, critical=usages_critical)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=purposes_critical)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), False)
    return Identity(builder.sign((issuer.key if issuer is not None else key), hashes.SHA256()), key)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make_ca(name: str = "A test's authority") -> Identity:
    return make(name, ca=True, usages=("key_cert_sign", "crl_sign"))


def write(
    folder: Path, role: str, identity: Identity | None, ca: Identity | None, *, password: bytes | None = None
) -> Path:  # fmt: skip
    """What tls-creds-x509 finds in a `dir`; `role` is server or client."""
    folder.mkdir(parents=True, exist_ok=True)
    if ca is not None:
        (folder / "ca-cert.pem").write_bytes(ca.pem)
    if identity is not None:
        (folder / f"{role}-cert.pem").write_bytes(identity.pem)
        (folder / f"{role}-key.pem").write_bytes(identity.key_pem(password))
    return folder


@dataclass(frozen=True)
class Pki:
    """One authority, a server for localhost, and a client."""

    ca: Identity
    server_dir: Path
    client_dir: Path


def make_pki(directory: Path, *, authority: str = "A test's authority", from_days: int = -1) -> Pki:
    """`from_days`: since when all is valid; simulated time is another."""
    ca = make(authority, ca=True, usages=("key_cert_sign", "crl_sign"), from_days=from_days)
    server = make("server", ca, hosts=("localhost", "127.0.0.1"), purposes=(SERVER_AUTH,), from_days=from_days)
    client = make("client", ca, purposes=(CLIENT_AUTH,), organization="fakeqemu", from_days=from_days)
    return Pki(ca, write(directory / "server", "server", server, ca), write(directory / "client", "client", client, ca))
