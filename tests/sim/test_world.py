# SPDX-License-Identifier: MIT
"""The simulation itself: time that jumps, sockets that end as the kernel's do, runs that repeat."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.channel import Channel
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.sim.host import SimHost
from fakeqemu.sim.world import SimStalled, SimWorld

UNIX = {"type": "unix", "path": "/run/socket"}


def connect(world: SimWorld, address: dict[str, Any] = UNIX) -> tuple[Channel, Channel]:
    """Both ends of a connection between two hosts."""
    near, far = world.host(), world.host()
    accepted: list[Channel] = []
    far.listen(address, accepted.append)
    channel = world.run(near.connect(address))
    world.run_ready()
    return channel, accepted[0]


def test_time_jumps_from_timer_to_timer() -> None:
    host = SimHost()
    log: list[tuple[str, int]] = []

    async def sleeper(name: str, seconds: int) -> None:
        for _ in range(2):
            await host.clock.sleep(seconds * NS_PER_S)
            log.append((name, host.clock.now_ns() // NS_PER_S))

    host.start(sleeper("a", 3), "a")
    host.start(sleeper("b", 5), "b")
    host.world.run_until_idle()
    assert log == [("a", 3), ("b", 5), ("a", 6), ("b", 10)]


def test_a_goal_that_nothing_can_reach_is_told_with_the_tasks_that_wait() -> None:
    host = SimHost()
    host.start(_forever(host), "mig/src/main")
    with pytest.raises(SimStalled, match="mig/src/main"):
        host.world.run_until(lambda: False)


async def _forever(host: SimHost) -> None:
    await host.future()


def test_run_for_lets_exactly_that_much_time_pass() -> None:
    host = SimHost()
    task = host.start(host.clock.sleep(10), "t")
    seen = []
    for ns in (9, 1):
        host.world.run_for(ns)
        seen.append((host.clock.now_ns(), task.done))
    assert seen == [(9, False), (10, True)]


def test_a_writer_waits_for_a_slow_reader() -> None:
    world = SimWorld()
    near, far = connect(world)
    host = world.hosts[0]
    task = host.start(near.write(bytes(1_000_000)), "writer")
    world.run_ready()
    assert not task.done
    got = 0
    while got < 1_000_000:
        got += len(world.run(far.read(100_000)))
    assert task.done


@pytest.mark.parametrize(("unread", "ending"), [(b"", b""), (b"unread", ConnectionResetError)])
def test_closing_with_unread_input_resets_the_other_side(unread: bytes, ending: Any) -> None:
    world = SimWorld()
    near, far = connect(world)
    world.run(far.write(b"last words"))
    if unread:
        world.run(near.write(unread))
    far.close()
    assert world.run(near.read(100)) == b"last words"
    if ending == b"":
        assert world.run(near.read(100)) == b""
    else:
        with pytest.raises(ending):
            world.run(near.read(100))


def test_writing_to_a_side_that_is_gone_breaks_the_pipe() -> None:
    world = SimWorld()
    near, far = connect(world)
    far.close()
    with pytest.raises(BrokenPipeError):
        world.run(near.write(b"x"))


def test_half_a_shutdown_leaves_the_other_half() -> None:
    world = SimWorld()
    near, far = connect(world)
    near.shutdown("write")
    assert world.run(far.read(10)) == b""
    world.run(far.write(b"still there"))
    assert world.run(near.read(100)) == b"still there"


def test_descriptors_ride_with_their_bytes_and_refer_to_the_same_thing() -> None:
    world = SimWorld()
    near, far = connect(world)
    sender, receiver = world.hosts[0], world.hosts[1]
    fd = sender.memfd()
    world.run(sender.channel_for_fd(sender.dup_fd(fd)).write(b"shared"))
    world.run(near.write(b"before"))
    world.run(near.write_fds(b"with", [fd]))
    assert world.run(far.read(100)) == b"before", "a read stops before bytes that carry descriptors"
    assert far.take_fds() == []
    assert world.run(far.read(100)) == b"with"
    (received,) = far.take_fds()
    sender.close_fd(fd)
    file: Any = receiver.channel_for_fd(received)
    assert file.tell() == 6, "the position is the open file's, not the descriptor's"
    file.seek(0)
    assert world.run(file.read(100)) == b"shared"


def test_a_link_of_limited_speed_takes_its_time() -> None:
    world = SimWorld()
    near, far = connect(world)
    world.network.bandwidth_bytes_per_s = 1_000_000
    start = world.clock.now_ns()
    world.run(near.write(bytes(100_000)))
    assert world.clock.now_ns() - start == NS_PER_S // 10
    assert len(world.run(far.read(1 << 20))) == 100_000


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (UNIX, "Failed to connect to '/run/socket': No such file or directory"),
        (
            {"type": "inet", "host": "localhost", "port": "4444"},
            "Failed to connect to 'localhost:4444': Connection refused",
        ),
    ],
)
def test_connecting_to_nobody_fails_in_qemus_words(address: dict[str, Any], text: str) -> None:
    host = SimHost()
    with pytest.raises(QemuError) as refused:
        host.world.run(host.connect(address))
    assert refused.value.desc == text


def test_a_closed_listener_leaves_no_file_and_its_port_is_free_again() -> None:
    world = SimWorld()
    host = world.host()
    for address in (UNIX, {"type": "inet", "host": "0.0.0.0", "port": "4444"}):
        host.listen(address, lambda channel: None).close()
        host.listen(address, lambda channel: None).close()
    assert not world.files.exists("/run/socket")


def test_any_free_port_is_told() -> None:
    world = SimWorld()
    host = world.host()
    address = host.listen({"type": "inet", "host": "127.0.0.1", "port": "0"}, lambda channel: None).address()
    assert int(address["port"]) > 0
    world.run(host.connect(address))


def test_chance_repeats_from_the_seed_and_does_not_depend_on_other_users() -> None:
    def draw(seed: int, *, other: bool) -> list[int]:
        host = SimHost(seed)
        if other:
            host.random("somebody else").random()
        return [host.random("me").randrange(1000) for _ in range(5)]

    assert draw(1, other=False) == draw(1, other=True)
    assert draw(1, other=False) != draw(2, other=False)


def test_a_process_that_ends_frees_what_it_held() -> None:
    world = SimWorld()
    _, far = connect(world)
    world.hosts[0].close_all()
    assert world.run(far.read(10)) == b""
    assert world.hosts[0].open_fds() == []
