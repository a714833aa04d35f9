# SPDX-License-Identifier: MIT
"""Folders of certificates and keys, each with something of its own, and what object-add is to make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.crypto.pki import CLIENT_AUTH, SERVER_AUTH, Identity, make, make_ca

Question = dict[str, Any]

_PAST: dict[str, Any] = {"from_days": -9, "until_days": -5}
_FUTURE: dict[str, Any] = {"from_days": 5, "until_days": 9}
_NO_CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
_SECRETS = ("sec", "secret"), ("other", "zzz")


class Folders:
    """What is asked, by name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.questions: dict[str, Question] = {}
        self._ca = make_ca()
        self._server = make("server", self._ca, hosts=("localhost",), purposes=(SERVER_AUTH,))
        self._client = make("client", self._ca, purposes=(CLIENT_AUTH,), organization="O,x")
        self._files()
        self._keys()
        self._authorities()
        self._certificates("server")
        self._certificates("client")
        self._chains()
        self._shared_keys()

    @staticmethod
    def preparation() -> list[Question]:
        """What has to be there before anything is asked."""
        secrets = [{"qom-type": "secret", "id": name, "data": data} for name, data in _SECRETS]
        objects = [*secrets, {"qom-type": "authz-simple", "id": "judge", "identity": "x"}]
        return [{"execute": "object-add", "arguments": one} for one in objects]

    def _ask(
        self, name: str, files: dict[str, bytes], role: str = "server", kind: str = "x509", **properties: Any
    ) -> None:
        folder = self._directory / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        arguments = {"qom-type": f"tls-creds-{kind}", "id": "x", "endpoint": role, "dir": str(folder), **properties}
        self.questions[name] = {key.replace("_", "-"): value for key, value in arguments.items() if value is not None}

    def _of(
        self, role: str, own: Identity | None = None, ca: Identity | None = None, **more: bytes
    ) -> dict[str, bytes]:
        own = own or (self._server if role == "server" else self._client)
        files = {
            "ca-cert.pem": (ca or self._ca).pem, f"{role}-cert.pem": own.pem, f"{role}-key.pem": own.key_pem()
        }  # fmt: skip
        return {**files, **{name.replace("__", ".").replace("_", "-"): content for name, content in more.items()}}

    def _files(self) -> None:
        for role in ("server", "client"):
            whole = self._of(role)
            self._ask(f"{role}-whole", whole, role)
            self._ask(f"{role}-nothing", {}, role)
            for missing in whole:
                self._ask(f"{role}-no-{missing}", {k: v for k, v in whole.items() if k != missing}, role)
                for content in (b"garbage\n", b"", _NO_CERTIFICATE):
                    name = f"{role}-{missing}-of-{len(content)}"
                    self._ask(name, {**whole, missing: content}, role)
                    self._ask(f"{name}-unlooked", {**whole, missing: content}, role, sanity_check=False)
            self._ask(f"{role}-authority-only", {"ca-cert.pem": self._ca.pem}, role)
        self._ask("no-dir", {}, dir=None)
        self._ask("no-folder", {}, dir="/nosuch")
        self._ask("bad-crl", self._of("server", ca_crl__pem=b"garbage"))
        self._ask("bad-dh", self._of("server", dh_params__pem=b"garbage"))
        self._ask("bad-priority", self._of("server"), priority="NOSUCH")
        self._ask("second-without-key", self._of("server", server_cert_0__pem=self._client.pem))
        whole = self._of("server")
        renamed = {name.replace("-cert.", "-cert-0.").replace("-key.", "-key-0."): data for name, data in whole.items()}
        self._ask("numbered-only", {**renamed, "ca-cert.pem": self._ca.pem})

    def _keys(self) -> None:
        self._ask("key-of-another", self._of("server", server_key__pem=self._client.key_pem()))
        locked = self._of("server", server_key__pem=self._server.key_pem(b"secret"))
        for name, password in (
            ("none", None),
            ("right", "sec"),
            ("wrong", "other"),
            ("nosuch", "nosuch"),
            ("no-secret", "judge"),
        ):
            self._ask(f"password-{name}", locked, passwordid=password)
            self._ask(f"password-{name}-not-needed", self._of("server"), passwordid=password)

    def _authorities(self) -> None:
        variants: dict[str, dict[str, Any]] = {
            "past": _PAST, "future": _FUTURE, "no-authority": {"ca": False}, "unsaid": {"ca": None},
            "no-signing": {"usages": ("digital_signature",)}, "no-usage": {"usages": None},
            "no-signing-uncritical": {"usages": ("digital_signature",), "usages_critical": False},
            "other-purpose": {"purposes": (CLIENT_AUTH,)}, "past-no-authority": {"ca": False, **_PAST},
        }  # fmt: skip
        for name, properties in variants.items():
            ca = make("ca", **{"ca": True, "usages": ("key_cert_sign",), **properties})
            self._ask(f"authority-{name}", self._of("server", make("server", ca), ca))
            self._ask(f"authority-{name}-unlooked", self._of("server", make("server", ca), ca), sanity_check=False)
        past = make("ca", ca=True, usages=("key_cert_sign",), **_PAST)
        self._ask("both-past", self._of("server", make("server", past, **_PAST), past))

    def _certificates(self, role: str) -> None:
        variants: dict[str, dict[str, Any]] = {
            "past": _PAST, "future": _FUTURE, "authority": {"ca": True}, "unsaid": {"ca": None}, "no-usage": {"usages": None},
            "no-signature": {"usages": ("key_encipherment",)}, "past-authority": {"ca": True, **_PAST},
            "no-signature-uncritical": {"usages": ("key_encipherment",), "usages_critical": False},
            "for-servers": {"purposes": (SERVER_AUTH,)}, "for-clients": {"purposes": (CLIENT_AUTH,)},
            "only-servers": {"purposes": (SERVER_AUTH,), "purposes_critical": True},
            "only-clients": {"purposes": (CLIENT_AUTH,), "purposes_critical": True},
        }  # fmt: skip
        for name, properties in variants.items():
            self._ask(f"{role}-{name}", self._of(role, make("leaf", self._ca, **properties)), role)

    def _chains(self) -> None:
        stranger = make("leaf", make_ca("another"))
        self._ask("stranger", self._of("server", stranger))
        self._ask("stranger-unverified", self._of("server", stranger), verify_peer=False)
        self._ask("stranger-unlooked", self._of("server", stranger), sanity_check=False)
        self._ask("namesake", self._of("server", make("leaf", make_ca())))
        self._ask("of-itself", self._of("server", make("leaf")))
        middle = make("middle", self._ca, ca=True, usages=("key_cert_sign",))
        leaf = make("leaf", middle)
        self._ask("middle-missing", self._of("server", leaf))
        self._ask("middle-with-it", self._of("server", leaf, server_cert__pem=leaf.pem + middle.pem))
        self._ask("middle-with-authority", self._of("server", leaf, ca_cert__pem=self._ca.pem + middle.pem))
        past = make("past", ca=True, usages=("key_cert_sign",), **_PAST)
        self._ask("two-authorities", self._of("server", ca_cert__pem=past.pem + self._ca.pem))

    def _shared_keys(self) -> None:
        contents = {
            "good": b"qemu:00112233\nbob:44556677\n", "garbage": b"garbage", "empty": b"", "no-hex": b"qemu:zzzz\n",
            "short": b"qemu:001122\n", "odd": b"qemu:abc\n", "returns": b"qemu:00112233\r\n", "longer-name": b"qemuX:00112233\n",
            "second": b"a:00\nqemu:00112233",
        }  # fmt: skip
        for role in ("server", "client"):
            for name, content in contents.items():
                self._ask(f"psk-{role}-{name}", {"keys.psk": content}, role, "psk")
            self._ask(f"psk-{role}-none", {}, role, "psk")
            self._ask(f"psk-{role}-no-dir", {}, role, "psk", dir=None)
            for user in ("bob", "eve", ""):
                self._ask(f"psk-{role}-user-{user}", {"keys.psk": contents["good"]}, role, "psk", username=user)
            self._ask(f"anon-{role}", {}, role, "anon")
            self._ask(f"anon-{role}-no-dir", {}, role, "anon", dir=None)
            self._ask(f"anon-{role}-bad-dh", {"dh-params.pem": b"x"}, role, "anon")
