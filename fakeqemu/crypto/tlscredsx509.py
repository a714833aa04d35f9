# SPDX-License-Identifier: MIT
"""TLS by certificates: an authority that one believes, and a certificate of one's own.

    ca-cert.pem                              whom to believe; always there
    ca-crl.pem                               what it has taken back
    server-cert.pem, server-key.pem          or client-..., which a client may lack
    server-cert-0.pem, server-key-0.pem ...  further ones (compat.tls_identities)

With `sanity-check` the certificates are looked at first: those that the other side would refuse are refused here, in
plainer words.

QEMU: crypto/tlscredsx509.c
"""

from __future__ import annotations

from fakeqemu.crypto import x509
from fakeqemu.crypto.tlscreds import SERVER, TLSCreds, read_file
from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from fakeqemu.crypto.x509 import Certificate
    from fakeqemu.system.machine import Machine

CA_CERT, CA_CRL = "ca-cert.pem", "ca-crl.pem"
_MISMATCH = "The certificate and the given key do not match."


class Identity:
    """A certificate with its chain, and where it and its key stand."""

    __slots__ = ("cert_path", "chain", "key_path")

    def __init__(self, cert_path: str, key_path: str) -> None:
        self.cert_path = cert_path
        self.key_path = key_path
        self.chain: list[Certificate] = []


class TLSCredsX509(TLSCreds):
    """`context` is what sessions are made of."""

    __slots__ = ("_ca", "_ca_path", "context")

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._ca: list[Certificate] = []
        self._ca_path = ""
        self.context: ssl.SSLContext | None = None
        self.define("sanity-check", "bool", default=True)
        self.define("passwordid", "string", default="")

    def complete(self) -> None:
        self.need_dir()
        self._ca_path = self.need_file(CA_CERT)
        if self.vm.compat.tls_identities:
            identities = self._find_identities()
            self._ca = _import(self._ca_path)
            for identity in identities:
                identity.chain = _import(identity.cert_path)
            self.context = self._new_context(identities)
            self._check(identities)
        else:
            identities = self._find_only_identity()
            self._check(identities)
            self.context = self._new_context(identities)
        self._load_rest(self.context)

    # --- finding --------------------------------------------------------------------------------------

    @property
    def _role(self) -> str:
        return str(self.value("endpoint"))

    def _find_identities(self) -> list[Identity]:
        """All pairs that are there; raises QemuError."""
        found: list[Identity] = []
        number = -1
        while True:
            infix = "" if number < 0 else f"-{number}"
            cert, key = f"{self._role}-cert{infix}.pem", f"{self._role}-key{infix}.pem"
            cert_path, key_path = self.file(cert), self.file(key)
            if cert_path is not None and key_path is not None:
                found.append(Identity(cert_path, key_path))
            elif cert_path is not None:
                raise QemuError(f"Cert '{cert_path}' without corresponding key '{self.path_of(key)}'")
            elif key_path is not None:
                raise QemuError(f"Key '{key_path}' without corresponding cert '{self.path_of(cert)}'")
            elif number >= 0:
                break
            number += 1
        if not found and self.is_server:
            cert_path, key_path = self.path_of("server-cert.pem"), self.path_of("server-key.pem")
            raise QemuError(f"Missing server cert '{cert_path}' & key '{key_path}'")
        return found

    def _find_only_identity(self) -> list[Identity]:
        names = (f"{self._role}-cert.pem", f"{self._role}-key.pem")
        if self._role == SERVER:
            return [Identity(*map(self.need_file, names))]
        cert_path, key_path = map(self.file, names)
        if cert_path is None:
            return []
        return [Identity(cert_path, key_path or "")]

    # --- reading --------------------------------------------------------------------------------------

    def _new_context(self, identities: list[Identity]) -> ssl.SSLContext:
        """The library's idea of these credentials; raises QemuError."""
        from fakeqemu.crypto.session_openssl import new_context

        context = new_context(self.is_server)
        password = self._password()
        self._believe(context)
        for identity in identities:
            if identity.key_path:
                shown = self.is_server or self._would_be_taken(identity)
                self._load_identity(context if shown else new_context(self.is_server), identity, password)
        return context

    def _would_be_taken(self, identity: Identity) -> bool:
        """Whether a client shows its certificate. GnuTLS does not where the server names authorities, and its own is not one
        of them; a server names the authority that its own certificate is of, and that is the one that we believe.
        """
        try:
            chain, authorities = (x509.read_certificates(read_file(at)) for at in (identity.cert_path, self._ca_path))
        except x509.BadCertificate:
            return True  # said elsewhere
        return any(one.subject == chain[-1].issuer for one in authorities)

    def _believe(self, context: ssl.SSLContext) -> None:
        """Take the authorities; older releases pass over a file without any. Raises QemuError."""
        try:
            authorities = x509.read_certificates(read_file(self._ca_path))
        except x509.BadCertificate as err:
            if str(err) == x509.BAD_DER:
                raise QemuError(f"Cannot load CA certificate '{self._ca_path}': {err}") from None
            return
        context.load_verify_locations(cadata=b"".join(one.der for one in authorities))

    def _password(self) -> bytes | None:
        from fakeqemu.system.objects import Secret

        name = self._values.get("passwordid")
        if not name:
            return None
        secret = self.vm.qom.objects.children.get(name)
        if secret is None:
            raise QemuError(f"No secret with id '{name}'")
        if not isinstance(secret, Secret):
            raise QemuError(f"Object with id '{name}' is not a secret")
        return secret.content

    def _load_identity(self, context: ssl.SSLContext, identity: Identity, password: bytes | None) -> None:
        import ssl

        several = self.vm.compat.tls_identities
        try:
            # An empty password in place of none: the library would ask for one on the terminal.
            context.load_cert_chain(identity.cert_path, identity.key_path, password or b"")
        except (ssl.SSLError, OSError, ValueError) as err:
            mismatch = "KEY_VALUES_MISMATCH" in str(getattr(err, "reason", ""))
            if several and not mismatch:
                raise QemuError(f"Unable to import private key {identity.key_path}") from None
            reason = _MISMATCH if mismatch else _why_not_loaded(identity)
            verb = "set" if several else "load"
            raise QemuError(
                f"Cannot {verb} certificate '{identity.cert_path}' & key '{identity.key_path}': {reason}"
            ) from None

    def _load_rest(self, context: ssl.SSLContext) -> None:
        """What an authority has taken back, and parameters of a server; raises QemuError."""
        import ssl

        path = self.file(CA_CRL)
        if path is not None:
            if b"-----BEGIN X509 CRL-----" not in read_file(path):
                raise QemuError(f"Cannot load CRL '{path}': Base64 decoding error.")
            context.load_verify_locations(path)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        self.read_dh_params()

    # --- looking --------------------------------------------------------------------------------------

    def _check(self, identities: list[Identity]) -> None:
        """What `sanity-check` asks for; raises QemuError."""
        if not self.value("sanity-check"):
            return
        if self.vm.compat.tls_identities:
            for identity in identities:
                self._check_certificate(identity.chain[0], identity.cert_path, ca=False)
                self._check_chain(identity)
                self._check_valid(identity)
            if not identities:
                for authority in self._ca:
                    self._check_certificate(authority, self._ca_path, ca=True)
            return
        for identity in identities:
            identity.chain = _import(identity.cert_path, "server " if self.is_server else "client ")
        try:
            self._ca = x509.read_certificates(read_file(self._ca_path))
        except x509.BadCertificate:
            raise QemuError(f"Unable to import CA certificate list {self._ca_path}") from None
        for identity in identities:
            self._check_certificate(identity.chain[0], identity.cert_path, ca=False)
        for authority in self._ca:
            self._check_certificate(authority, self._ca_path, ca=True)
        for identity in identities:
            del identity.chain[1:]  # those behind the first are not looked at
            self._check_valid(identity)

    def _check_certificate(self, certificate: Certificate, path: str, *, ca: bool) -> None:
        """QEMU: qcrypto_tls_creds_check_cert"""
        role = "CA" if ca else self._role
        now = self._now()
        if now > certificate.not_after:
            raise QemuError(f"The {role} certificate {path} has expired")
        if now < certificate.not_before:
            raise QemuError(f"The {role} certificate {path} is not yet active")
        if ca and certificate.is_ca is None:
            raise QemuError(f"The certificate {path} is missing basic constraints for a CA")
        if ca and not certificate.is_ca:
            raise QemuError(f"The certificate {path} basic constraints do not show a CA")
        if not ca and certificate.is_ca:
            raise QemuError(f"The certificate {path} basic constraints show a CA, but we need one for a {role}")
        usage, wanted = certificate.usage, x509.USAGE_CERTIFICATE_SIGN if ca else x509.USAGE_DIGITAL_SIGNATURE
        if usage is not None and not usage & wanted and certificate.usage_critical:
            what = "certificate signing" if ca else "digital signature"
            raise QemuError(f"Certificate {path} usage does not permit {what}")
        if not ca and certificate.purposes and certificate.purposes_critical:
            purpose = x509.PURPOSE_SERVER if self.is_server else x509.PURPOSE_CLIENT
            if purpose not in certificate.purposes and x509.PURPOSE_ANY not in certificate.purposes:
                raise QemuError(f"Certificate {path} purpose does not allow use with a TLS {role}")

    def _now(self) -> str:
        from time import gmtime, strftime

        return strftime("%Y%m%d%H%M%S", gmtime(self.vm.host.clock.wall_ns() // 1_000_000_000))

    def _check_chain(self, identity: Identity) -> None:
        """Every authority above the certificate is one; raises QemuError.

        QEMU: qcrypto_tls_creds_check_authority_chain
        """
        at = identity.chain[0]
        known = [*((one, self._ca_path) for one in self._ca), *((one, identity.cert_path) for one in identity.chain)]
        for _ in known:
            above = [(one, path) for one, path in known if one.subject == at.issuer]
            if not above or (at.subject == at.issuer and at is identity.chain[0] and above[0][0] is not at):
                break
            issuer, path = above[0]
            if issuer is at is identity.chain[0]:
                path = self._ca_path  # a certificate of itself is told as if it were the authority's
            self._check_certificate(issuer, path, ca=True)
            if issuer.subject == issuer.issuer:
                return
            at = issuer
        raise QemuError(f"Cert '{at.subject_name}' has no issuer in CA chain")

    def _check_valid(self, identity: Identity) -> None:
        """Our own certificate leads to the authority; raises QemuError."""
        reason = self._why_invalid(identity)
        if reason is not None:
            raise QemuError(
                f"Our own certificate {identity.cert_path} failed validation against {self._ca_path}: {reason}"
            )  # fmt: skip

    def _why_invalid(self, identity: Identity) -> str | None:
        if not any(one.subject == identity.chain[-1].issuer for one in self._ca):
            return "The certificate hasn't got a known issuer"
        if not identity.key_path:
            return None
        from fakeqemu.crypto.session_openssl import verify_own

        return verify_own(identity.cert_path, identity.key_path, self._password(), self._ca)


def _import(path: str, what: str = "") -> list[Certificate]:
    """The certificates of a file; raises QemuError."""
    try:
        return x509.read_certificates(read_file(path))
    except x509.BadCertificate as err:
        # Where one certificate is read and not a list, a file without any is told in other words.
        reason = x509.BAD_HEADER if what and str(err) == x509.NO_CERTIFICATE else str(err)
        raise QemuError(f"Unable to import {what}certificate {path}: {reason}") from None


def _why_not_loaded(identity: Identity) -> str:
    """GnuTLS's reason for a pair that cannot be loaded, in older releases."""
    try:
        x509.read_certificates(read_file(identity.cert_path))
    except x509.BadCertificate as err:
        return x509.BAD_DER if str(err) == x509.BAD_DER else "Base64 decoding error."
    key = read_file(identity.key_path)
    if b"ENCRYPTED" in key:
        return "Decryption has failed."
    return x509.BAD_DER if b"PRIVATE KEY-----" in key else "The requested data were not available."
