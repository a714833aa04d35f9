# SPDX-License-Identifier: MIT
"""What is plugged into the fault points of one machine: it looks for the rule that acts, and does what the rule says.

    injector = Injector(vm)
    rule = injector.add(Rule("vmstate_load", Stall(), match={"id": "timer"}, name="held"))
    ...
    injector.release("held")

Rules and what they do: `rule`. Faults of a link (latency, bandwidth, slices, resets, corruption): `link`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fakeqemu.faults import catalogue
from fakeqemu.faults.link import FaultyChannel, LinkFault
from fakeqemu.faults.point import READS, WRITES, error_at
from fakeqemu.faults.rule import Action, Close, Corrupt, Delay, Fail, Kill, Rule, Stall
from fakeqemu.host.clock import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from fakeqemu.faults.answers import Answers
    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Event
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine

__all__ = ["Action", "Close", "Corrupt", "Delay", "Fail", "Injected", "Injector", "Kill", "Rule", "Stall"]


@dataclass(slots=True, frozen=True)
class Injected:
    """One fault that happened."""

    point: str
    fields: dict[str, Any]
    action: Action
    error: Exception | None = None


class Injector:
    """What is plugged into one machine's fault points. Making one plugs it in."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.rules: list[Rule] = []
        self.links: list[LinkFault] = []
        #: answers of QMP commands that are not the usual ones, once there are any
        self.answers: Answers | None = None
        #: migration channels that are open, in the order in which they were opened
        self.channels: list[FaultyChannel] = []
        #: what has happened so far
        self.injected: list[Injected] = []
        #: how many points were passed
        self.passed = 0
        self._stalls: dict[str, Event] = {}
        self._random = vm.host.random("faults")
        vm.faults.injector = self
        vm.faults.wrap = self._wrap

    # --- what is to go wrong --------------------------------------------------------------------------

    def add(self, rule: Rule) -> Rule:
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule back; nothing happens when it is not there. Who is stalled by it goes on."""
        if rule in self.rules:
            self.rules.remove(rule)
        self.release(rule.name)

    def add_link(self, fault: LinkFault) -> LinkFault:
        """A fault of all channels whose name fits, those that are open included."""
        self.links.append(fault)
        return fault

    def clear(self) -> None:
        """Take everything back; who is stalled goes on."""
        self.rules.clear()
        for fault in self.links:
            fault.release()
        self.links.clear()
        for name in self.stalled():
            self.release(name)
        if self.answers is not None:
            self.answers.clear()

    def release(self, name: str = "") -> None:
        """Let those go on who are stalled by the rule, the link fault or the answer of this name."""
        stall = self._stalls.pop(name, None)
        if stall is not None:
            stall.set()
        for fault in self.links:
            if name and fault.name == name:
                fault.release()
        if self.answers is not None:
            self.answers.release(name)

    def stalled(self) -> list[str]:
        """Names of rules by which somebody is stalled now."""
        return list(self._stalls)

    # --- what the fault points ask --------------------------------------------------------------------

    def wait(self, point: str, fields: dict[str, Any], /) -> Awaitable[None] | None:
        rule = self._acting(point, fields, waiting=True)
        if rule is None:
            return None
        self._note(point, fields, rule.action)
        return self._pause(rule)

    def check(self, point: str, fields: dict[str, Any], /) -> None:
        self.passed += 1
        rule = self._acting(point, fields, waiting=False)
        if rule is None:
            return
        action = rule.action
        if isinstance(action, Corrupt | Close):
            self._note(point, fields, action)
            if isinstance(action, Corrupt):
                self._corrupt(point, fields, action.offset)
            else:
                self._close(point, fields)
            return
        # A dead process' code still unwinds where only the simulation ends it: nothing that it does is seen any more.
        fail = action if isinstance(action, Fail) else Fail()
        is_old = not self._vm.compat.migration_error_chain
        error = error_at(
            catalogue.POINTS[point], fail.number, os.strerror(fail.number), fields, fail.text, is_old=is_old
        )
        self._note(point, fields, action, error)
        if isinstance(action, Kill):
            self._vm.host.kill()
        raise error

    async def _pause(self, rule: Rule) -> None:
        if isinstance(rule.action, Delay):
            await self._vm.host.clock.sleep(int(rule.action.ms * NS_PER_MS))
        else:
            await self._stalls.setdefault(rule.name, self._vm.host.event()).wait()

    def _acting(self, point: str, fields: dict[str, Any], *, waiting: bool) -> Rule | None:
        for rule in self.rules:
            if isinstance(rule.action, Delay | Stall) != waiting or not rule.fits(point, fields):
                continue
            if rule.exhausted or not catalogue.POINTS[point].can(rule.action):
                continue
            rule.passed += 1
            if rule.passed <= rule.after:
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            rule.acted += 1
            return rule
        return None

    def _note(self, point: str, fields: dict[str, Any], action: Action, error: Exception | None = None) -> None:
        self.injected.append(Injected(point, fields, action, error))
        self._vm.trace("fake_fault_injected", point=point, action=type(action).__name__.lower(), error=str(error or ""))

    # --- channels -------------------------------------------------------------------------------------

    def _wrap(self, channel: Channel) -> Channel:
        faulty = FaultyChannel(self._vm, channel, self.links, self.channels.remove)
        self.channels.append(faulty)
        return faulty

    def close_channels(self) -> None:
        """End all connections, as if the other side had closed them."""
        for channel in list(self.channels):
            channel.shutdown()

    def _close(self, point: str, fields: dict[str, Any]) -> None:
        """End the connection that the point is about, or all where it is about none of them."""
        channels = self._channels_of(point, fields)
        if not channels:
            self.close_channels()
        for channel in channels:
            channel.shutdown()

    def _channels_of(self, point: str, fields: dict[str, Any]) -> list[FaultyChannel]:
        """The connections that a point is about."""
        if isinstance(fields.get("channel"), FaultyChannel):
            return [fields["channel"]]
        name = catalogue.POINTS[point].channel.format(**fields)
        return [channel for channel in self.channels if name and channel.name == name]

    def _corrupt(self, point: str, fields: dict[str, Any], offset: int) -> None:
        """Change a byte of those that come next: of this call, of a channel, or of the stream as its owner sees it."""
        flow = catalogue.POINTS[point].flow
        channels = self._channels_of(point, fields)
        if channels:
            channels[0].spoil(flow, offset, fields.get("position"))
            return
        f, channel = self._stream(flow)
        if f is None or channel is None:
            return
        if flow == READS:
            buffer: Any
            buffer, at = f.buffered()
            if offset < f.available and isinstance(buffer, bytearray):
                buffer[at + offset] ^= 0xFF
            else:
                channel.spoil(flow, offset - f.available)
        else:
            channel.spoil(flow, f.bytes_transferred - f.flushed + offset)

    def _stream(self, flow: str) -> tuple[QEMUFile | None, FaultyChannel | None]:
        """The main stream that is being written or read, and its channel."""
        vm = self._vm
        owner: Any = vm.migration.outgoing if flow == WRITES else vm.migration.incoming
        if vm.has_part("colo") and vm.colo.half is not None and vm.colo.mode != "none":
            owner = vm.colo.half  # a half reads and writes on one
        f = owner.f if owner is not None else None
        if f is None or not isinstance(f.channel, FaultyChannel):
            return None, None
        return f, f.channel
