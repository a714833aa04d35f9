# SPDX-License-Identifier: MIT
"""X.509 certificates, as far as QEMU looks into them: who, until when, what for.

A certificate is nested DER: a tag, a length, a content. What is read of it:

    Certificate ─ tbsCertificate ─┬─ issuer, validity, subject
                                  └─ extensions: basicConstraints, keyUsage, extKeyUsage, subjectAltName

Nothing here verifies a signature: that is the TLS library's matter.

QEMU: crypto/tlscredsx509.c by way of GnuTLS; RFC 5280, RFC 4514 (names), RFC 6125 (hosts)
"""

from __future__ import annotations

import binascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGIN = "-----BEGIN "
_END = "-----END "
_CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE")

# tags
_BOOLEAN, _INTEGER, _BIT_STRING, _OCTET_STRING, _OID = 0x01, 0x02, 0x03, 0x04, 0x06
_SEQUENCE, _UTC_TIME, _VERSION, _EXTENSIONS = 0x30, 0x17, 0xA0, 0xA3
_UTF16, _UTF32 = 0x1E, 0x1C
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87

# object identifiers, as they stand in DER
_COMMON_NAME = bytes.fromhex("550403")
_KEY_USAGE = bytes.fromhex("551d0f")
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")
PURPOSE_ANY = bytes.fromhex("551d2500")
PURPOSE_SERVER = bytes.fromhex("2b06010505070301")
PURPOSE_CLIENT = bytes.fromhex("2b06010505070302")

#: bits of the key usage
USAGE_DIGITAL_SIGNATURE = 0x80
USAGE_CERTIFICATE_SIGN = 0x04

#: attributes of a name -> how they are written
_ATTRIBUTES = {
    "550403": "CN",
    "550404": "sn",
    "550405": "serialNumber",
    "550406": "C",
    "550407": "L",
    "550408": "ST",
    "550409": "street",
    "55040a": "O",
    "55040b": "OU",
    "55040c": "title",
    "55042a": "givenName",
    "0992268993f22c640101": "UID",
    "0992268993f22c640119": "DC",
    "2a864886f70d010901": "EMAIL",
}


class BadCertificate(Exception):
    """What is there is no certificate; the text is GnuTLS's."""


NO_CERTIFICATE = "No certificate was found."
BAD_HEADER = "Base64 unexpected header error."
BAD_DER = "ASN1 parser: Error in TAG."


class Certificate:
    """One certificate."""

    __slots__ = (
        "common_names", "der", "dns_names", "ip_addresses", "is_ca", "issuer", "not_after", "not_before", "purposes",
        "purposes_critical", "subject", "subject_name", "usage", "usage_critical",
    )  # fmt: skip

    def __init__(self, der: bytes) -> None:
        """Raises BadCertificate."""
        self.der = der
        #: names as bytes, to be compared, and the subject's as text
        self.issuer = b""
        self.subject = b""
        self.subject_name = ""
        self.common_names: list[str] = []
        #: the time it is valid from and the time it is valid to, as YYYYMMDDHHMMSS
        self.not_before = ""
        self.not_after = ""
        #: None: it does not say
        self.is_ca: bool | None = None
        self.usage: int | None = None
        self.usage_critical = False
        self.purposes: list[bytes] = []
        self.purposes_critical = False
        self.dns_names: list[str] = []
        self.ip_addresses: list[bytes] = []
        try:
            self._parse(der)
        except (ValueError, IndexError):
            raise BadCertificate(BAD_DER) from None

    def _parse(self, der: bytes) -> None:
        certificate = _expect(_one(der), _SEQUENCE)
        parts = list(_each(_expect(_one(certificate), _SEQUENCE)))
        if parts[0][0] == _VERSION:
            del parts[0]
        # serial number, algorithm of the signature, issuer, validity, subject, public key, ...
        self.issuer = _expect(parts[2], _SEQUENCE)
        self.not_before, self.not_after = (_time(tag, content) for tag, content in _each(parts[3][1]))
        self.subject = _expect(parts[4], _SEQUENCE)
        self._parse_subject()
        for tag, content in parts[6:]:
            if tag == _EXTENSIONS:
                for _, extension in _each(_expect(_one(content), _SEQUENCE)):
                    self._parse_extension([*_each(extension)])

    def _parse_subject(self) -> None:
        shown = []
        for _, relative in _each(self.subject):
            pairs = []
            for _, attribute in _each(relative):
                (_, oid), (tag, value) = _each(attribute)
                text = _text(tag, value)
                pairs.append(f"{_ATTRIBUTES.get(oid.hex()) or _dotted(oid)}={_escaped(text)}")
                if oid == _COMMON_NAME:
                    self.common_names.append(text)
            shown.append("+".join(pairs))
        self.subject_name = ",".join(shown)

    def _parse_extension(self, parts: list[tuple[int, bytes]]) -> None:
        oid = _expect(parts[0], _OID)
        critical = parts[1][0] == _BOOLEAN and parts[1][1] != b"\0"
        tag, value = _one(_expect(parts[-1], _OCTET_STRING))
        if oid == _BASIC_CONSTRAINTS:
            first = next(_each(value), None)
            self.is_ca = first is not None and first[0] == _BOOLEAN and first[1] != b"\0"
        elif oid == _KEY_USAGE:
            self.usage = _expect((tag, value), _BIT_STRING)[1] if len(value) > 1 else 0
            self.usage_critical = critical
        elif oid == _EXTENDED_KEY_USAGE:
            self.purposes = [one for _, one in _each(value)]
            self.purposes_critical = critical
        elif oid == _SUBJECT_ALT_NAME:
            for kind, name in _each(value):
                if kind == _DNS_NAME:
                    self.dns_names.append(name.decode("ascii", "replace"))
                elif kind == _IP_ADDRESS:
                    self.ip_addresses.append(name)

    def matches(self, host: str) -> bool:
        """Whether this is a certificate of that host. The common name counts where no other name is given."""
        address = _address(host)
        if address is not None and self.ip_addresses:
            return address in self.ip_addresses
        names = self.dns_names or ([] if self.ip_addresses else self.common_names[:1])
        return any(_name_matches(name, host) for name in names)


def _name_matches(name: str, host: str) -> bool:
    """A wildcard stands for the first label, or for a part of it."""
    name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    if not name.startswith("*."):
        return name == host
    label, dot, rest = host.partition(".")
    return bool(label and dot) and rest.count(".") >= 1 and rest == name[2:]


def _address(host: str) -> bytes | None:
    """The bytes of a numerical address."""
    from _socket import AF_INET, AF_INET6, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            return inet_pton(family, host)
        except (OSError, ValueError):
            pass
    return None


# --- PEM --------------------------------------------------------------------------------------------------


def pem_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Label and content of each block; raises BadCertificate for one that is no base64."""
    label = ""
    lines: list[str] = []
    for line in data.decode("latin-1").splitlines():
        if line.startswith(_BEGIN) and line.rstrip().endswith("-----"):
            label, lines = line.rstrip()[len(_BEGIN) : -5], []
        elif label and line.startswith(_END + label):
            try:
                content = binascii.a2b_base64("".join(lines), strict_mode=True)
            except ValueError:
                raise BadCertificate(BAD_HEADER) from None
            yield label, content
            label = ""
        elif label and ":" not in line:
            lines.append(line.strip())


def read_certificates(data: bytes) -> list[Certificate]:
    """All certificates of a PEM file; raises BadCertificate, also when there is none."""
    found = [Certificate(content) for label, content in pem_blocks(data) if label in _CERTIFICATE_LABELS]
    if not found:
        raise BadCertificate(NO_CERTIFICATE)
    return found


# --- DER --------------------------------------------------------------------------------------------------


def _each(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value; raises ValueError or IndexError where there is none."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        if not size <= len(data) - at:
            raise ValueError("a value is longer than what it stands in")
        yield tag, data[at : at + size]
        at += size


def _one(data: bytes) -> tuple[int, bytes]:
    """The first value."""
    for value in _each(data):
        return value
    raise ValueError("nothing is there")


def _expect(value: tuple[int, bytes], tag: int) -> bytes:
    if value[0] != tag:
        raise ValueError(f"tag {value[0]:#x}, not {tag:#x}")
    return value[1]


def _time(tag: int, content: bytes) -> str:
    text = content.decode("ascii").rstrip("Z")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return text


def _text(tag: int, value: bytes) -> str:
    encoding = {_UTF16: "utf-16-be", _UTF32: "utf-32-be"}.get(tag, "utf-8")
    return value.decode(encoding, "replace")


def _escaped(text: str) -> str:
    shown = "".join("\\" + char if char in ',+"\\<>;' else char for char in text)
    return "\\" + shown if text[:1] in ("#", " ") else shown


def _dotted(oid: bytes) -> str:
    numbers, number = [oid[0] // 40, oid[0] % 40], 0
    for byte in oid[1:]:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    return ".".join(map(str, numbers))
