# SPDX-License-Identifier: MIT
"""What every Host, Channel, Listener and Clock must do, as tests.

A Host's own test file derives a class from each contract and provides the fixture `world`:

    class TestEpoll(HostContract, ChannelContract):
        @pytest.fixture
        def world(self, tmp_path): ...

Each test is one coroutine of the core (it awaits only what the Host gave it), which `world.run` drives to its end.

QEMU: tests/unit/test-io-channel-socket.c, io-channel-helpers.c
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.host.sync import Cancelled, TaskGroup

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fakeqemu.host.channel import Channel, Listener, SocketAddress
    from fakeqemu.host.host import Host


class World(Protocol):
    """A Host and what drives it."""

    host: Host

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Drive `coro` to its end; returns its result or raises what it raised. Fails when it stalls."""

    def unix_path(self, name: str) -> str:
        """A path for a UNIX socket or a file that does not exist yet."""

    def socketpair(self) -> tuple[int, int]:
        """Two descriptors of connected stream sockets."""

    def pipe(self) -> tuple[int, int]:
        """Descriptors of the reading and of the writing end of a pipe."""


class Inbox:
    """The far end of a pushed channel: what it heard."""

    def __init__(self, host: Host, channel: Channel) -> None:
        self._host = host
        self.channel = channel
        self.data = b""
        self.fds: list[int] = []
        self.hung_up = False
        self._changed = host.event()
        channel.attach(self._on_data, self._on_hangup)

    def _on_data(self, data: bytes, fds: list[int]) -> None:
        self.data += data
        self.fds += fds
        self._changed.set()

    def _on_hangup(self) -> None:
        self.hung_up = True
        self._changed.set()

    async def until_data(self, size: int) -> bytes:
        while len(self.data) < size:
            self._changed.clear()
            await self._changed.wait()
        return self.data

    async def until_hangup(self) -> None:
        while not self.hung_up:
            self._changed.clear()
            await self._changed.wait()


class Acceptor:
    """A listener and the channels it accepted."""

    def __init__(self, host: Host, address: SocketAddress, backlog: int = 1) -> None:
        self.channels: list[Channel] = []
        self._arrived = host.event()
        self.listener: Listener = host.listen(address, self._accepted, backlog=backlog)

    def _accepted(self, channel: Channel) -> None:
        self.channels.append(channel)
        self._arrived.set()

    async def accept(self) -> Channel:
        while not self.channels:
            self._arrived.clear()
            await self._arrived.wait()
        return self.channels.pop(0)


async def read_exactly(channel: Channel, size: int) -> bytes:
    """`size` bytes, fewer only at the end."""
    data = b""
    while len(data) < size:
        more = await channel.read(size - len(data))
        if not more:
            break
        data += more
    return data


class ClockContract:
    """Time, timers and turns."""

    def test_callbacks_run_in_the_order_of_their_requests_in_a_later_turn(self, world: World) -> None:
        async def story() -> list[int]:
            seen: list[int] = []
            done = world.host.event()
            for number in range(5):
                world.host.call_soon(lambda number=number: seen.append(number))  # type: ignore[misc]
            world.host.call_soon(done.set)
            assert seen == []
            await done.wait()
            return seen

        assert world.run(story()) == [0, 1, 2, 3, 4]

    def test_a_sleep_lasts_at_least_as_long_as_asked(self, world: World) -> None:
        async def story() -> int:
            start = world.host.clock.now_ns()
            await world.host.clock.sleep(3 * NS_PER_MS)
            return world.host.clock.now_ns() - start

        assert world.run(story()) >= 3 * NS_PER_MS

    def test_timers_fire_in_the_order_of_their_deadlines_and_cancelled_ones_never(self, world: World) -> None:
        async def story() -> list[str]:
            clock, seen = world.host.clock, []
            now = clock.now_ns()
            clock.call_at(now + 3 * NS_PER_MS, lambda: seen.append("late"))
            clock.call_at(now + 1 * NS_PER_MS, lambda: seen.append("early"))
            clock.call_at(now + 2 * NS_PER_MS, lambda: seen.append("never")).cancel()
            clock.call_at(now + 1 * NS_PER_MS, lambda: seen.append("early too"))
            await clock.sleep_until(now + 5 * NS_PER_MS)
            return seen

        assert world.run(story()) == ["early", "early too", "late"]

    def test_a_timer_set_by_a_timer_fires(self, world: World) -> None:
        async def story() -> None:
            clock, done = world.host.clock, world.host.event()

            def first() -> None:
                clock.call_at(clock.now_ns() + NS_PER_MS, done.set)

            clock.call_at(clock.now_ns(), first)
            await done.wait()

        world.run(story())

    def test_a_cancelled_sleep_ends_at_once(self, world: World) -> None:
        async def story() -> bool:
            async def sleeper() -> None:
                await world.host.clock.sleep(3600 * 1000 * NS_PER_MS)

            task = world.host.start(sleeper(), "sleeper")
            task.cancel()
            try:
                await task.join()
            except Cancelled:
                return True
            return False

        assert world.run(story())

    def test_random_streams_of_different_names_do_not_disturb_each_other(self, world: World) -> None:
        one, other = world.host.random("one"), world.host.random("other")
        other.random()
        assert [one.randrange(1000) for _ in range(3)] != [other.randrange(1000) for _ in range(3)]


class ChannelContract:
    """Sockets and pipes, pulled and pushed."""

    @pytest.fixture(params=["unix", "inet", "inet6"])
    def address(self, request: pytest.FixtureRequest, world: World) -> SocketAddress:
        if request.param == "unix":
            return {"type": "unix", "path": world.unix_path("listener")}
        return {"type": "inet", "host": "127.0.0.1" if request.param == "inet" else "::1", "port": "0"}

    async def _pair(self, world: World, address: SocketAddress) -> tuple[Channel, Channel]:
        acceptor = Acceptor(world.host, address)
        client = await world.host.connect(acceptor.listener.address(), name="client")
        server = await acceptor.accept()
        acceptor.listener.close()
        return client, server

    def test_bytes_arrive_in_order_both_ways(self, world: World, address: SocketAddress) -> None:
        async def story() -> None:
            client, server = await self._pair(world, address)
            await client.write(b"one ", b"", memoryview(b"two "), bytearray(b"three"))
            assert await read_exactly(server, 13) == b"one two three"
            await server.write(b"answer")
            assert await read_exactly(client, 6) == b"answer"
            assert client.is_socket
            assert client.can_read
            assert client.can_write

        world.run(story())

    def test_peeked_bytes_are_read_again(self, world: World, address: SocketAddress) -> None:
        async def story() -> None:
            client, server = await self._pair(world, address)
            await client.write(b"QEVMxyz")
            assert await server.peek(4) == b"QEVM"
            assert await server.peek(4) == b"QEVM"
            assert await read_exactly(server, 7) == b"QEVMxyz"
            await client.write(b"ab")
            client.close()
            assert await server.peek(4) == b"ab"

        world.run(story())

    def test_a_reader_waits_and_gets_the_end_when_the_peer_closes(self, world: World, address: SocketAddress) -> None:
        async def story() -> None:
            client, server = await self._pair(world, address)
            reader = world.host.start(server.read(100), "reader")
            assert not reader.done
            await client.write(b"x")
            assert await reader.join() == b"x"
            reader = world.host.start(server.read(100), "reader")
            client.close()
            assert await reader.join() == b""

        world.run(story())

    def test_a_writer_waits_for_room_and_all_bytes_arrive(self, world: World, address: SocketAddress) -> None:
        block = bytes(range(256)) * 4096

        async def story() -> None:
            client, server = await self._pair(world, address)
            total = 8 * len(block)
            async with TaskGroup(world.host) as group:
                writer = group.start(client.write(*[block] * 8), "writer")
                got = bytearray()
                while len(got) < total:
                    got += await server.read(65536)
                await writer.join()
            assert bytes(got) == block * 8

        world.run(story())

    def test_half_shut_down_ends_one_direction_only(self, world: World, address: SocketAddress) -> None:
        async def story() -> None:
            client, server = await self._pair(world, address)
            client.shutdown("write")
            assert await server.read(1) == b""
            await server.write(b"still here")
            assert await read_exactly(client, 10) == b"still here"
            with pytest.raises(OSError, match="roken pipe"):
                await client.write(b"x")

        world.run(story())

    def test_shutdown_wakes_those_who_wait(self, world: World, address: SocketAddress) -> None:
        async def story() -> None:
            client, server = await self._pair(world, address)
            reader = world.host.start(server.read(1), "reader")
            peer = world.host.start(client.read(1), "peer")
            server.shutdown()
            assert await reader.join() == b""
            assert await peer.join() == b""

        world.run(story())

    def test_writing_to_a_peer_that_left_fails(self, world: World, address: SocketAddress) -> None:
        async def story() -> int | None:
            client, server = await self._pair(world, address)
            server.close()
            for _ in range(100):
                try:
                    await client.write(b"x" * 65536)
                except OSError as error:
                    return error.errno
            return None

        assert world.run(story()) in (errno.EPIPE, errno.ECONNRESET)

    def test_closing_twice_does_nothing_and_a_closed_channel_is_no_use(self, world: World) -> None:
        async def story() -> None:
            client, _server = await self._pair(world, {"type": "unix", "path": world.unix_path("s")})
            client.close()
            client.close()
            with pytest.raises(OSError):
                await client.read(1)
            with pytest.raises(OSError):
                await client.write(b"x")

        world.run(story())

    def test_descriptors_ride_on_the_bytes(self, world: World) -> None:
        async def story() -> None:
            client, server = await self._pair(world, {"type": "unix", "path": world.unix_path("s")})
            reader, writer = world.pipe()
            await client.write_fds(b"take this", [writer])
            world.host.close_fd(writer)
            assert await read_exactly(server, 9) == b"take this"
            (taken,) = server.take_fds()
            assert server.take_fds() == []
            far, near = world.host.channel_for_fd(taken), world.host.channel_for_fd(reader)
            await far.write(b"through the descriptor")
            far.close()
            assert await read_exactly(near, 100) == b"through the descriptor"
            near.close()

        world.run(story())

    def test_a_pushed_channel_hears_data_descriptors_and_the_end(self, world: World) -> None:
        async def story() -> None:
            client, server = await self._pair(world, {"type": "unix", "path": world.unix_path("s")})
            inbox = Inbox(world.host, server)
            reader, writer = world.pipe()
            await client.write(b"first ")
            await inbox.until_data(6)
            await client.write_fds(b"second", [reader])
            assert await inbox.until_data(12) == b"first second"
            assert len(inbox.fds) == 1
            for fd in (reader, writer, *inbox.fds):
                world.host.close_fd(fd)
            client.close()
            await inbox.until_hangup()

        world.run(story())

    def test_a_paused_channel_keeps_quiet_and_loses_nothing(self, world: World, address: SocketAddress) -> None:
        async def story() -> None:
            client, server = await self._pair(world, address)
            server.pause_reading()
            inbox = Inbox(world.host, server)
            await client.write(b"kept")
            await world.host.clock.sleep(2 * NS_PER_MS)
            assert inbox.data == b""
            server.resume_reading()
            assert await inbox.until_data(4) == b"kept"

        world.run(story())

    def test_what_is_sent_without_waiting_arrives_whole(self, world: World, address: SocketAddress) -> None:
        block = bytes(range(256)) * 4096

        async def story() -> None:
            client, server = await self._pair(world, address)
            client.send(b"head")
            for _ in range(4):
                client.send(block)
            assert await read_exactly(server, 4 + 4 * len(block)) == b"head" + block * 4

        world.run(story())

    def test_bytes_peeked_before_attaching_are_pushed(self, world: World, address: SocketAddress) -> None:
        async def story() -> None:
            client, server = await self._pair(world, address)
            await client.write(b"early and late")
            assert await server.peek(5) == b"early"
            assert await Inbox(world.host, server).until_data(14) == b"early and late"

        world.run(story())

    def test_a_pipe_goes_one_way_and_ends(self, world: World) -> None:
        async def story() -> None:
            read_fd, write_fd = world.pipe()
            reader, writer = world.host.channel_for_fd(read_fd), world.host.channel_for_fd(write_fd)
            assert (reader.can_read, reader.can_write) == (True, False)
            assert (writer.can_read, writer.can_write) == (False, True)
            assert not reader.is_socket
            await writer.write(b"down the pipe")
            writer.close()
            assert await read_exactly(reader, 100) == b"down the pipe"
            assert await reader.read(1) == b""
            assert reader.local_address() is None

        world.run(story())


class HostContract:
    """Listening, connecting, files."""

    def test_a_paused_listener_leaves_clients_in_the_backlog(self, world: World) -> None:
        async def story() -> None:
            acceptor = Acceptor(world.host, {"type": "unix", "path": world.unix_path("s")})
            acceptor.listener.pause()
            client = await world.host.connect(acceptor.listener.address())
            await client.write(b"hello")
            await world.host.clock.sleep(2 * NS_PER_MS)
            assert acceptor.channels == []
            acceptor.listener.resume()
            assert await read_exactly(await acceptor.accept(), 5) == b"hello"

        world.run(story())

    def test_port_0_becomes_a_real_one(self, world: World) -> None:
        listener = world.host.listen({"type": "inet", "host": "127.0.0.1", "port": "0"}, lambda _channel: None)
        address = listener.address()
        assert address["type"] == "inet"
        assert address["host"] == "127.0.0.1"
        assert int(address["port"]) > 0
        listener.close()
        listener.close()

    def test_nobody_listens_any_more_after_close(self, world: World) -> None:
        async def story(address: SocketAddress) -> None:
            await world.host.connect(address)

        path = world.unix_path("s")
        listener = world.host.listen({"type": "unix", "path": path}, lambda _channel: None)
        listener.close()
        with pytest.raises(QemuError, match="No such file or directory"):
            world.run(story({"type": "unix", "path": path}))
        listener = world.host.listen({"type": "inet", "host": "127.0.0.1", "port": "0"}, lambda _channel: None)
        address = listener.address()
        listener.close()
        with pytest.raises(QemuError) as caught:
            world.run(story(address))
        assert caught.value.desc == f"Failed to connect to '127.0.0.1:{address['port']}': Connection refused"

    def test_refusals_are_in_the_words_of_qemu(self, world: World) -> None:
        async def connect(address: SocketAddress) -> None:
            await world.host.connect(address)

        with pytest.raises(QemuError) as caught:
            world.run(connect({"type": "unix", "path": world.unix_path("nobody")}))
        assert caught.value.desc == f"Failed to connect to '{world.unix_path('nobody')}': No such file or directory"
        too_long = "/" + "x" * 120
        with pytest.raises(QemuError) as caught:
            world.run(connect({"type": "unix", "path": too_long}))
        assert caught.value.desc == f"UNIX socket path '{too_long}' is too long"
        with pytest.raises(QemuError) as caught:
            world.host.listen({"type": "unix", "path": too_long}, lambda _channel: None)
        assert caught.value.desc == f"UNIX socket path '{too_long}' is too long"

    def test_a_second_listener_on_a_port_is_refused(self, world: World) -> None:
        first = world.host.listen({"type": "inet", "host": "127.0.0.1", "port": "0"}, lambda _channel: None)
        with pytest.raises(QemuError) as caught:
            world.host.listen(first.address(), lambda _channel: None)
        assert caught.value.desc == "Failed to find an available port: Address already in use"
        first.close()

    def test_to_names_a_range_of_ports(self, world: World) -> None:
        first = world.host.listen({"type": "inet", "host": "127.0.0.1", "port": "0"}, lambda _channel: None)
        port = int(first.address()["port"])
        second = world.host.listen({**first.address(), "to": port + 50}, lambda _channel: None)
        assert port < int(second.address()["port"]) <= port + 50
        first.close()
        second.close()

    def test_a_file_is_written_and_read_again(self, world: World) -> None:
        import os

        path = world.unix_path("file")

        async def story() -> None:
            channel = world.host.open_channel(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            assert channel.is_seekable
            await channel.write(b"some ", b"bytes")
            channel.close()
            channel = world.host.open_channel(path, os.O_RDONLY)
            assert await read_exactly(channel, 100) == b"some bytes"
            assert await channel.read(1) == b""
            channel.close()
            with pytest.raises(FileNotFoundError):
                world.host.open_channel(world.unix_path("absent"), os.O_RDONLY)

        world.run(story())

    def test_threads_have_ids_of_their_own(self, world: World) -> None:
        one, other = world.host.thread("CPU 0/TCG"), world.host.thread("CPU 1/TCG")
        assert len({one.tid, other.tid, world.host.pid}) == 3
        assert one.name == "CPU 0/TCG"
        one.stop()
        other.stop()
