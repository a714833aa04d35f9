# SPDX-License-Identifier: MIT
"""How a client of a VNC server proves that it may come.

    none       nothing to prove
    vnc        a challenge of 16 random bytes, enciphered with the password (its first eight bytes) by DES
    vencrypt   TLS first, then one of the two above. Nothing may come between the client's choice and its first TLS record

QEMU: protocol_client_auth_vnc in ui/vnc.c, ui/vnc-auth-vencrypt.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.ui import des, rfb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.ui.vnc_client import VncState

CHALLENGE_BYTES = 16
_KEY_BYTES = 8
_NS_PER_S = 1_000_000_000


class Refused(Exception):
    """The client did not prove anything; it has been told, where its version knows how."""


def vnc_response(password: str, challenge: bytes) -> bytes:
    """What a client answers that knows the password."""
    key = password.encode("utf-8", "surrogateescape").partition(b"\0")[0][:_KEY_BYTES].ljust(_KEY_BYTES, b"\0")
    # VNC has the bits of each byte of the key the other way round.
    return des.encrypt(bytes(int(f"{byte:08b}"[::-1], 2) for byte in key), challenge)


async def authenticate(vs: VncState, auth: int) -> None:
    """All of one way; raises Refused."""
    vs.trace("vnc_auth_start", method=auth)
    if auth == rfb.AUTH_NONE:
        if vs.minor >= 8:
            await vs.write(_ACCEPTED)
    elif auth == rfb.AUTH_VNC:
        await _challenge(vs)
    else:
        await _vencrypt(vs)
    vs.trace("vnc_auth_pass", method=auth)


async def _vencrypt(vs: VncState) -> None:
    """QEMU: ui/vnc-auth-vencrypt.c"""
    await vs.write(_VENCRYPT_VERSION)
    if await vs.read(2) != _VENCRYPT_VERSION:
        await vs.write(b"\1")
        raise Refused
    subauth = vs.display.subauth
    await vs.write(b"\0\1" + subauth.to_bytes(4, "big"))
    if int.from_bytes(await vs.read(4), "big") != subauth:
        await vs.write(b"\0")
        raise Refused
    await vs.write(b"\1")
    try:
        await vs.start_tls()
    except QemuError as error:
        vs.trace("vnc_auth_fail", method=vs.auth, message="TLS handshake failed", reason=error.desc)
        raise Refused from None
    if subauth in (rfb.VENCRYPT_TLSVNC, rfb.VENCRYPT_X509VNC):
        await _challenge(vs)
    else:
        await vs.write(_ACCEPTED)


async def _challenge(vs: VncState) -> None:
    challenge = vs.display.random.randbytes(CHALLENGE_BYTES)
    await vs.write(challenge)
    response = await vs.read(CHALLENGE_BYTES)
    display = vs.display
    if display.password is None:
        await _fail(vs, "password is not set")
    elif display.expires_s < vs.vm.host.clock.wall_ns() // _NS_PER_S:
        await _fail(vs, "password is expired")
    elif response != vnc_response(display.password, challenge):
        await _fail(vs, "mis-matched challenge response")
    await vs.write(_ACCEPTED)


async def _fail(vs: VncState, why: str) -> None:
    """Refuse; why is for the trace alone."""
    vs.trace("vnc_auth_fail", method=vs.auth, message=why, reason="")
    await reject(vs)


async def reject(vs: VncState) -> None:
    """Tell the client, and raise Refused."""
    text = b"Authentication failed\0"
    await vs.write(_REJECTED + (len(text).to_bytes(4, "big") + text if vs.minor >= 8 else b""))
    raise Refused


_VENCRYPT_VERSION = b"\0\2"
_ACCEPTED = bytes(4)
_REJECTED = b"\0\0\0\1"
