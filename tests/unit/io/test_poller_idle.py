# SPDX-License-Identifier: MIT
"""Idle work is done in the quiet, piece by piece, and never before what has happened."""

from __future__ import annotations

import os

import pytest

from fakeqemu.io.poller import EpollPoller
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.warm_up import MODULES, WarmUp


@pytest.fixture
def poller() -> EpollPoller:
    return EpollPoller()


def test_work_begins_in_the_quiet_and_goes_on_without_waiting(poller: EpollPoller) -> None:
    pieces: list[int] = []

    def work() -> bool:
        pieces.append(len(pieces))
        return len(pieces) < 3

    poller.idle_work = work
    poller.call_soon(lambda: None)
    poller.turn()  # something was there to be done
    assert pieces == []
    poller.turn()  # the quiet
    assert pieces == [0]
    poller.turn()
    poller.turn()
    assert pieces == [0, 1, 2]


def test_work_that_has_nothing_more_is_asked_again_only_after_something_has_happened(poller: EpollPoller) -> None:
    asked: list[None] = []
    reader, writer = os.pipe()
    heard: list[bytes] = []
    poller.add_reader(reader, lambda: heard.append(os.read(reader, 1)))

    def work() -> bool:
        asked.append(None)
        return False

    poller.idle_work = work
    poller.turn()
    assert len(asked) == 1
    os.write(writer, b"x")
    poller.turn()  # would wait for ever, if it waited for nothing but the quiet
    assert heard == [b"x"]
    assert len(asked) == 1
    poller.turn()
    assert len(asked) == 2
    os.close(reader)
    os.close(writer)


def test_what_happens_meanwhile_comes_before_the_next_piece(poller: EpollPoller) -> None:
    order: list[str] = []
    reader, writer = os.pipe()
    poller.add_reader(reader, lambda: order.append(os.read(reader, 1).decode()))

    def work() -> bool:
        order.append("work")
        os.write(writer, b"x")
        return True

    poller.idle_work = work
    for _ in range(4):
        poller.turn()
    assert order == ["work", "x", "work", "x"]
    os.close(reader)
    os.close(writer)


def test_work_that_fails_is_reported_and_given_up(poller: EpollPoller) -> None:
    errors: list[Exception] = []
    poller.on_error = errors.append

    def work() -> bool:
        raise RuntimeError("bug")

    poller.idle_work = work
    poller.turn()
    assert [str(error) for error in errors] == ["bug"]
    assert poller.idle_work is None


def test_modules_to_load_early_exist_and_come_piece_by_piece() -> None:
    class Machine:
        board = None
        profile = VersionProfile.load("11.1")

        class host:
            ended = False

            @classmethod
            def when_idle(cls, work: object) -> None:
                cls.ended = work is None

    work = WarmUp(Machine())  # type: ignore[arg-type]
    pieces = 0
    while work.step():
        pieces += 1
    assert pieces > len(MODULES)
    assert Machine.host.ended
