# SPDX-License-Identifier: MIT
"""TLS in migration: which channels it is for, and with which credentials.

    tls-creds      id of the credentials; "" for none
    tls-hostname   (source) the name that the destination's certificate has to have; the host of the address without it
    tls-authz      (destination) id of the object that says which sources may come

The source is the client. Every channel has a handshake of its own before its first byte.

QEMU: migration/tls.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration.channel import MULTIFD, PREEMPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.crypto.tlscreds import TLSCreds
    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Future
    from fakeqemu.system.machine import Machine

    MigrationAddress = dict[str, Any]

#: how long a connection waits for one that came before it
_PATIENCE_NS = 1_000_000_000


def check(vm: Machine) -> None:
    """Raise NotEmulated where the credentials need a library that is not there."""
    from fakeqemu.crypto.tlscredspsk import TLSCredsPSK

    creds = vm.qom.objects.children.get(vm.migration.options.get("tls-creds"))
    if isinstance(creds, TLSCredsPSK):
        from fakeqemu.crypto import session_openssl, session_tlslite

        if not session_openssl.has_psk() and not session_tlslite.is_installed():
            raise session_tlslite.missing()


async def connect(
    vm: Machine, channel: Channel, address: MigrationAddress, kind: str, *, further: str = ""
) -> Channel:  # fmt: skip
    """(source) The encrypted channel over one that was just opened; raises QemuError, and closes it.

    QEMU: migration_tls_channel_connect
    """
    options = vm.migration.options
    hostname = options.get("tls-hostname") or address.get("host")
    try:
        vm.faults.check("fake_migration_tls_get_creds", id=options.get("tls-creds"))
        await _begin(vm, further, hostname or "")
        session = _new_session(find_credentials(vm, server=False))
        secure = await _handshake(vm, channel, session, kind, hostname=hostname, authz=None)
    except QemuError as err:
        vm.trace("migration_tls_outgoing_handshake_error", err=err.desc)
        channel.close()
        raise
    except BaseException:
        channel.close()
        raise
    vm.trace("migration_tls_outgoing_handshake_complete")
    return secure


async def _begin(vm: Machine, further: str, hostname: str) -> None:
    """A handshake of the source begins; raises QemuError."""
    if further == MULTIFD:
        vm.trace("multifd_tls_outgoing_handshake_start", hostname=hostname)
        await vm.faults.pass_through("multifd_tls_outgoing_handshake_start", hostname=hostname)
    elif further == PREEMPT:
        vm.trace("postcopy_preempt_tls_handshake")
        await vm.faults.pass_through("postcopy_preempt_tls_handshake", hostname=hostname)
    else:
        vm.trace("migration_tls_outgoing_handshake_start", hostname=hostname)
        await vm.faults.pass_through("migration_tls_outgoing_handshake_start", hostname=hostname)


class Handshake:
    """(destination) One that is under way."""

    __slots__ = ("channel", "ended")

    def __init__(self, vm: Machine, channel: Channel) -> None:
        self.channel = channel
        self.ended: Future = vm.host.future()

    def break_off(self) -> None:
        self.channel.shutdown()


async def accept(vm: Machine, channel: Channel, kind: str, on_channel: Callable[[Channel], None]) -> None:
    """(destination) Agree with the source that has come, then `on_channel(secure channel)`.

    Where the two do not agree, the connection is closed and said to be of no use, and the destination waits for another;
    without credentials of its own it fails.

    QEMU: migration_tls_channel_process_incoming
    """
    incoming = vm.migration.incoming
    assert incoming is not None
    try:
        vm.faults.check("fake_migration_tls_get_creds", id=vm.migration.options.get("tls-creds"))
        session = _new_session(find_credentials(vm, server=True))
    except QemuError as err:
        vm.error_report(err.desc)
        if vm.compat.tls_incoming_refused_fails:
            await incoming.refuse(channel)
        else:
            channel.close()
        return
    vm.trace("migration_tls_incoming_handshake_start")
    earlier = [one.ended for one in incoming.handshakes]
    handshake = Handshake(vm, channel)
    incoming.handshakes.append(handshake)
    try:
        await vm.faults.pass_through("migration_tls_incoming_handshake_start")
        authz = vm.migration.options.get("tls-authz") or None
        secure = await _handshake(vm, channel, session, kind, hostname=None, authz=authz)
        await _in_order(vm, earlier)
    except QemuError as err:
        vm.trace("migration_tls_incoming_handshake_error", err=err.desc)
        if incoming.listening:
            vm.error_report(err.desc)
        channel.close()
        return
    except BaseException:
        channel.close()
        raise
    finally:
        incoming.handshakes.remove(handshake)
        handshake.ended.set_result()
    vm.trace("migration_tls_incoming_handshake_complete")
    on_channel(secure)


async def _in_order(vm: Machine, earlier: list[Future]) -> None:
    """Wait until those have ended that had begun before; not for ever.

    The main channel is known by having come first, and the kernel may hold back the last words of its handshake for longer
    than another handshake takes.
    """
    deadline_ns = vm.host.clock.now_ns() + _PATIENCE_NS
    for ended in earlier:
        if not ended.done:
            either = vm.host.future()
            ended.add_done_callback(either.set_result)
            timer = vm.host.clock.call_at(deadline_ns, either.set_result)
            try:
                await either
            finally:
                timer.cancel()
                ended.remove_done_callback(either.set_result)


def find_credentials(vm: Machine, *, server: bool) -> TLSCreds:
    """The object that the parameter tls-creds names; raises QemuError.

    QEMU: migration_tls_get_creds
    """
    from fakeqemu.crypto.tlscreds import TLSCreds

    name = vm.migration.options.get("tls-creds")
    creds = vm.qom.objects.children.get(name)
    if creds is None:
        raise QemuError(f"No TLS credentials with id '{name}'")
    if not isinstance(creds, TLSCreds):
        raise QemuError(f"Object with id '{name}' is not TLS credentials")
    if creds.is_server != server:
        raise QemuError(f"Expected TLS credentials for a {'server' if server else 'client'} endpoint")
    return creds


def _new_session(creds: TLSCreds) -> Any:
    from fakeqemu.crypto.tlssession import new_session

    creds.vm.faults.check("qcrypto_tls_session_new")
    return new_session(creds)


async def _handshake(
    vm: Machine, channel: Channel, session: Any, kind: str, *, hostname: str | None, authz: str | None
) -> Channel:
    from fakeqemu.crypto.channel_tls import TLSChannel

    secure = TLSChannel(vm, channel, session)
    await secure.handshake(hostname, authz, kind)
    return secure


def relax_end(vm: Machine, channel: Channel) -> None:
    """(destination) Take the end of a multifd channel for what it is where no goodbye can be expected."""
    from fakeqemu.crypto.channel_tls import TLSChannel

    if isinstance(channel, TLSChannel):
        channel.relaxed_end = not vm.migration.settings.get("multifd-clean-tls-termination")


async def say_goodbye(vm: Machine, channel: Channel) -> None:
    """(source) End a multifd channel so that the other side sees that it is meant; nothing on others.

    QEMU: migration_tls_channel_end
    """
    from fakeqemu.crypto.channel_tls import TLSChannel

    if isinstance(channel, TLSChannel) and vm.compat.multifd_tls_goodbye:
        try:
            await channel.bye()
        except OSError:
            pass  # the migration has ended by now
