# SPDX-License-Identifier: MIT
"""The source waits for the destination's leave to switch over."""

from __future__ import annotations

import pytest

from fakeqemu.host.clock import NS_PER_S
from fakeqemu.migration.stream import return_path as rp
from tests.sim._pair import Pair, told


def ack_pair(profile: str) -> Pair:
    pair = Pair(profile)
    pair.fill(10)
    pair.capabilities(return_path=True)
    pair.capabilities(switchover_ack=True)
    return pair


def messages(pair: Pair) -> list[int]:
    """Kinds of the messages that the destination sends, as it sends them."""
    kinds: list[int] = []
    original = rp.message

    def message(kind: int, data: bytes = b"") -> bytes:
        kinds.append(kind)
        return original(kind, data)

    rp.message = message
    return kinds


@pytest.mark.parametrize(("profile", "acks"), [("10.0", 1), ("11.1", 0)])
def test_without_devices_that_ask_each_generation_has_its_way(
    profile: str, acks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = ack_pair(profile)
    monkeypatch.setattr(rp, "message", rp.message)  # put back afterwards
    kinds = messages(pair)
    assert pair.migrate()["status"] == "completed"
    assert kinds.count(rp.MIG_RP_MSG_SWITCHOVER_ACK) == acks
    if acks:
        assert kinds[0] == rp.MIG_RP_MSG_SWITCHOVER_ACK, "before the first PONG"


@pytest.mark.parametrize(("board", "acks"), [("pc-q35-11.1", 0), ("pc-q35-11.0", 1)])
def test_a_machine_type_keeps_its_generation(board: str, acks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair("11.1", board=board)
    pair.capabilities(return_path=True)
    pair.capabilities(switchover_ack=True)
    monkeypatch.setattr(rp, "message", rp.message)
    kinds = messages(pair)
    assert pair.migrate()["status"] == "completed"
    assert kinds.count(rp.MIG_RP_MSG_SWITCHOVER_ACK) == acks


def test_a_new_source_and_an_old_destination_do_not_understand_each_other() -> None:
    pair = ack_pair("11.1")
    pair.destination.vm.migration.settings["switchover-ack-legacy"] = True
    pair.start()
    pair.world.run_for(2 * NS_PER_S)
    info = pair.source.execute("query-migrate")
    assert (info["status"], info["error-desc"]) == ("active", "Switchover ack pending num underflowed")
    assert "device" not in told(pair.source)
    pair.source.execute("migrate_cancel")
    assert pair.finish()["status"] == "cancelled"


def test_an_old_source_waits_for_the_ack_of_a_new_destination_while_its_guest_runs() -> None:
    pair = ack_pair("11.1")
    pair.source.vm.migration.settings["switchover-ack-legacy"] = True
    pair.start()
    pair.world.run_for(2 * NS_PER_S)
    assert pair.source.vm.migration.state == "active"
    pair.source.execute("stop")
    assert pair.finish()["status"] == "completed"
