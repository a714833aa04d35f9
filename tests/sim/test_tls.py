# SPDX-License-Identifier: MIT
"""Encrypted migrations between simulated machines, and with those who do not speak TLS as they should."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Injector
from fakeqemu.faults.link import LinkFault
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.sim._tls import keys, use_certificates

pytest.importorskip("cryptography")

ADDRESS = {"type": "inet", "host": "127.0.0.1", "port": "4444"}
URI = "tcp:127.0.0.1:4444"
PAGE = 4096
PAGES = 64

#: an alert that is fatal; one that says goodbye
FATAL = bytes.fromhex("15030300020228")
GOODBYE = bytes.fromhex("15030300020100")
NO_HELLO = bytes.fromhex("160303007a020000")


class Pair:
    """A source with some memory, a destination that waits, and what each has open."""

    def __init__(self, profile: str = "11.1", capabilities: tuple[str, ...] = ()) -> None:
        self.world = SimWorld(1)
        self.source = SimMachine(self.world, name="source", profile=profile)
        self.destination = SimMachine(self.world, name="destination", profile=profile)
        block = RAMBlock("ram", PAGES * PAGE)
        block.write_pages(3, b"content " * 512 * 5)
        self.source.vm.ram_blocks.append(block)
        self.destination.vm.ram_blocks.append(RAMBlock("ram", PAGES * PAGE))
        self.source.execute("cont")
        self.destination.vm.runstate.set("inmigrate")
        states = [{"capability": name, "state": True} for name in ("events", *capabilities)]
        for side in (self.source, self.destination):
            side.execute("migrate-set-capabilities", capabilities=states)
        self._open = {side: side.host.open_fds() for side in (self.source, self.destination)}

    def migrate(self) -> None:
        self.destination.execute("migrate-incoming", uri=URI, exit_on_error=False)
        self.go()

    def go(self) -> None:
        self.source.execute("migrate", uri=URI)
        self.world.run_until_idle()

    def failed(self) -> str:
        """Why the source has failed; its guest runs, and nothing is open."""
        info = self.source.execute("query-migrate")
        assert info["status"] == "failed"
        assert self.source.vm.runstate.running
        self.nothing_open(self.source)
        return str(info["error-desc"])

    def completed(self) -> None:
        for side in (self.source, self.destination):
            assert side.execute("query-migrate")["status"] == "completed"
            self.nothing_open(side)
        blocks = [side.vm.ram_blocks[0] for side in (self.source, self.destination)]
        assert blocks[0].read_pages(0, PAGES) == blocks[1].read_pages(0, PAGES)

    def nothing_open(self, side: SimMachine) -> None:
        assert side.vm.bugs == 0, side.host.log_lines
        assert side.host.tasks == []
        assert side.host.open_fds() == self._open[side]

    def stranger(self, *, listens: bool, says: bytes, silent: bool = False) -> None:
        """Somebody at one end who says that, and leaves unless he is `silent`."""
        host = self.world.host("stranger")

        async def talk(channel: Any) -> None:
            if says:
                await channel.write(says)
            if not silent:
                channel.shutdown("write")
                while await channel.read(65536):
                    pass
                channel.close()

        def start(coro: Any) -> None:
            host.start(coro, "stranger")

        async def come() -> None:
            await talk(await host.connect(ADDRESS))

        if listens:
            host.listen(ADDRESS, lambda channel: start(talk(channel)))
        else:
            start(come())


@pytest.fixture
def pair() -> Pair:
    both = Pair()
    use_certificates(both.source, both.destination)
    return both


@pytest.mark.parametrize("capabilities", [(), ("return-path",), ("multifd",), ("multifd", "return-path")], ids=" ".join)
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1", "next"])
def test_memory_arrives(profile: str, capabilities: tuple[str, ...]) -> None:
    both = Pair(profile, capabilities)
    use_certificates(both.source, both.destination)
    if profile == "7.2":
        both.destination.execute("migrate-incoming", uri=URI)
        both.go()
    else:
        both.migrate()
    both.completed()


@pytest.mark.parametrize("preempt", [False, True])
def test_the_guest_may_leave_first(preempt: bool) -> None:
    both = Pair("11.1", ("postcopy-ram", "postcopy-preempt") if preempt else ("postcopy-ram",))
    use_certificates(both.source, both.destination)
    both.source.execute("migrate-set-parameters", max_bandwidth=4096, max_postcopy_bandwidth=0)
    both.destination.execute("migrate-incoming", uri=URI, exit_on_error=False)
    both.source.execute("migrate", uri=URI)
    both.world.run_until(lambda: both.source.vm.migration.state == "active")
    both.source.execute("migrate-start-postcopy")
    both.world.run_until_idle()
    assert "postcopy-active" in [data.get("status") for _, _, data in both.source.events]
    both.completed()


def test_what_travels_cannot_be_read(pair: Pair) -> None:
    seen: list[bytes] = []

    class Spy:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def write(self, *buffers: bytes) -> None:
            seen.extend(map(bytes, buffers))
            await self.inner.write(*buffers)

    pair.source.vm.faults.wrap = Spy  # type: ignore[assignment]
    pair.migrate()
    pair.completed()
    wire = b"".join(seen)
    assert len(wire) > 5 * PAGE
    assert b"content" not in wire
    assert b"QEVM" not in wire


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "The TLS connection was non-properly terminated."),
        (b"\x16", "The TLS connection was non-properly terminated."),
        (b"hello world, this is no TLS at all" * 10, "An unexpected TLS packet was received."),
        (b"QEVM\0\0\0\3", "An unexpected TLS packet was received."),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", "An unexpected TLS packet was received."),
        (FATAL, "A TLS fatal alert has been received."),
        (GOODBYE, "Peer has terminated the connection"),
        (NO_HELLO, "Error decoding the received TLS packet."),
    ],
    ids=["nothing", "short", "text", "stream", "http", "alert", "goodbye", "half"],
)
def test_a_destination_that_does_not_speak_tls(pair: Pair, says: bytes, why: str) -> None:
    """As 11.1.2 and 7.2.22 say it."""
    pair.stranger(listens=True, says=says)
    pair.go()
    assert pair.failed() == f"TLS handshake failed: {why}"


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "The TLS connection was non-properly terminated."),
        (b"\x16", "The TLS connection was non-properly terminated."),
        (b"hello world, this is no TLS at all" * 10, "An unexpected TLS packet was received."),
        (b"QEVM\0\0\0\3", "An unexpected TLS packet was received."),
        (b"GET / HTTP/1.0\r\n\r\n", "An unexpected TLS packet was received."),
        (FATAL, "An unexpected TLS packet was received."),
        (bytes.fromhex("160303007a010000"), "Error decoding the received TLS packet."),
    ],
    ids=["nothing", "short", "text", "stream", "http", "alert", "half"],
)
def test_a_source_that_does_not_speak_tls_is_sent_away_and_the_next_one_is_welcome(
    pair: Pair, says: bytes, why: str
) -> None:
    pair.destination.execute("migrate-incoming", uri=URI)
    pair.stranger(listens=False, says=says)
    pair.world.run_until_idle()
    assert pair.destination.host.log_lines == [f"TLS handshake failed: {why}"]
    assert pair.destination.execute("query-migrate")["status"] == "setup"
    assert pair.destination.host.tasks == []
    pair.go()
    pair.completed()


def test_a_source_that_says_nothing_holds_up_nobody_for_long(pair: Pair) -> None:
    pair.destination.execute("migrate-incoming", uri=URI)
    pair.stranger(listens=False, says=b"", silent=True)
    pair.world.run_until_idle()
    start_ns = pair.world.clock.now_ns()
    pair.go()
    pair.completed()
    assert pair.world.clock.now_ns() - start_ns < 3 * NS_PER_S


def test_a_destination_that_says_nothing_is_waited_for_until_cancelled(pair: Pair) -> None:
    pair.stranger(listens=True, says=b"", silent=True)
    pair.go()
    assert pair.source.execute("query-migrate")["status"] == "setup"
    pair.source.execute("migrate_cancel")
    pair.world.run_until_idle()
    assert pair.source.execute("query-migrate")["status"] == "cancelled"
    assert pair.source.vm.runstate.running
    pair.nothing_open(pair.source)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_a_connection_that_breaks_anywhere_in_the_handshake(direction: str) -> None:
    """A few bytes later each time; the end is that of the link, or of what could not be made of the rest."""
    for at in range(0, 1200, 150):
        both = Pair()
        use_certificates(both.source, both.destination)
        Injector(both.source.vm).add_link(LinkFault(direction=direction, close_at=at))
        both.migrate()
        assert both.failed().startswith(("TLS handshake failed: ", "Unable to write", "Cannot read"))
        assert both.destination.vm.bugs == 0


def test_bytes_that_change_on_their_way_are_noticed(pair: Pair) -> None:
    Injector(pair.destination.vm).add_link(LinkFault(direction="read", corrupt_at=12_000))
    pair.migrate()
    info = pair.destination.execute("query-migrate")
    assert info["status"] == "failed"
    pair.nothing_open(pair.destination)


@pytest.mark.parametrize("clean", [True, False])
def test_multifd_channels_that_end_without_a_goodbye(clean: bool) -> None:
    """As 11.1.2 says it, with multifd-clean-tls-termination and without."""
    both = Pair("11.1", ("multifd", "pause-before-switchover"))
    use_certificates(both.source, both.destination)
    both.destination.vm.migration.settings["multifd-clean-tls-termination"] = clean
    both.destination.execute("migrate-incoming", uri=URI, exit_on_error=False)
    both.go()
    assert both.source.execute("query-migrate")["status"] == "pre-switchover"
    assert both.destination.execute("query-migrate")["status"] == "active"
    outgoing = both.source.vm.migration.outgoing
    assert outgoing is not None
    assert outgoing.multifd is not None
    outgoing.multifd.yank()
    both.world.run_for(NS_PER_S)
    both.source.host.kill()
    both.world.run_until_idle()
    desc = both.destination.execute("query-migrate")["error-desc"]
    unclean = "Cannot read from TLS channel: The TLS connection was non-properly terminated."
    assert (desc == unclean) == clean
    both.nothing_open(both.destination)


@pytest.mark.parametrize("endpoint", ["source", "destination"])
@pytest.mark.parametrize(
    ("creds", "why"),
    [
        ("nosuch", "No TLS credentials with id 'nosuch'"),
        ("judge", "Object with id 'judge' is not TLS credentials"),
        ("wrong", "Expected TLS credentials for a {} endpoint"),
    ],
)
def test_credentials_that_cannot_be_used(pair: Pair, endpoint: str, creds: str, why: str) -> None:
    side = getattr(pair, endpoint)
    side.execute("object-add", **{"qom-type": "authz-simple", "id": "judge", "identity": "x"})
    wrong = ("server", keys().server_dir) if endpoint == "source" else ("client", keys().client_dir)
    side.execute(
        "object-add", **{"qom-type": "tls-creds-x509", "id": "wrong", "endpoint": wrong[0], "dir": str(wrong[1])}
    )
    side.execute("migrate-set-parameters", tls_creds=creds)
    pair.migrate()
    why = why.format("client" if endpoint == "source" else "server")
    if endpoint == "source":
        assert pair.failed() == why
        assert pair.destination.execute("query-migrate")["status"] == "setup"
    else:
        assert pair.failed().startswith("TLS handshake failed: ")
        assert pair.destination.host.log_lines == [why]
        assert pair.destination.execute("query-migrate")["status"] == "failed"


def test_a_priority_that_gnutls_does_not_take(pair: Pair) -> None:
    pair.source.execute("qom-set", path="/objects/tls0", property="priority", value="NOSUCH")
    pair.migrate()
    assert pair.failed() == "Unable to set TLS session priority NOSUCH: The request is invalid."


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_priority_chooses_the_version(pair: Pair, version: str) -> None:
    other = {"1.2": "1.3", "1.3": "1.2"}[version]
    pair.source.execute("qom-set", path="/objects/tls0", property="priority", value=f"NORMAL:-VERS-TLS{other}")
    pair.migrate()
    pair.completed()


def test_tls_and_places_in_a_file_do_not_go_together() -> None:
    both = Pair()
    use_certificates(both.source, both.destination)
    both.source.execute("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
    with pytest.raises(QemuError, match="Cannot use TLS with mapped-ram"):
        both.source.execute("migrate", uri="file:/tmp/saved")


def test_shared_keys_without_a_library_are_refused_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from fakeqemu.crypto import session_openssl

    monkeypatch.setattr(session_openssl, "has_psk", lambda: False)
    monkeypatch.setitem(sys.modules, "tlslite.api", None)
    (tmp_path / "keys.psk").write_text("qemu:00112233\n")
    both = Pair()
    creds = {"qom-type": "tls-creds-psk", "id": "tls0", "endpoint": "client", "dir": str(tmp_path)}
    both.source.execute("object-add", **creds)
    both.source.execute("migrate-set-parameters", tls_creds="tls0")
    with pytest.raises(QemuError, match="install fakeqemu with the extra 'tls'"):
        both.source.execute("migrate", uri=URI)
    assert both.source.vm.runstate.running
    both.nothing_open(both.source)


def test_without_keys_nobody_is_known() -> None:
    both = Pair()
    for side, endpoint in ((both.source, "client"), (both.destination, "server")):
        side.execute("object-add", **{"qom-type": "tls-creds-anon", "id": "tls0", "endpoint": endpoint})
        side.execute("migrate-set-parameters", tls_creds="tls0")
    both.migrate()
    both.completed()


def test_a_name_on_the_list_may_come_and_no_other(pair: Pair) -> None:
    rules = [{"match": "*CN=client", "policy": "allow", "format": "glob"}]
    pair.destination.execute("object-add", **{"qom-type": "authz-list", "id": "judge", "rules": rules})
    pair.destination.execute("migrate-set-parameters", tls_authz="judge")
    pair.destination.execute("qom-set", path="/objects/judge", property="rules", value=[])
    pair.migrate()
    assert pair.source.execute("query-migrate")["status"] == "failed"
    assert pair.destination.host.log_lines == ["TLS x509 authz check for O=fakeqemu,CN=client is denied"]
    pair.destination.execute("qom-set", path="/objects/judge", property="rules", value=rules)
    pair.go()
    pair.completed()
