# SPDX-License-Identifier: MIT
"""Our own settings: `-fake key=value[,key=value...]` and the variable FAKEQEMU, in which the option wins per key.

profile=NAME|FOLDER      which QEMU this is (default: next)
clock=real|scaled:RATE|manual
seed=TEXT                what chance draws from
ram=wire|model           what travels of make-believe RAM
kvm=off|on               whether KVM is there
scenario=FILE            what the guest does and what goes wrong: see fakeqemu/scenario
host=FILE                the make-believe host's hardware
transcript=FILE          record all conversations of monitors
guest.dirty-rate=SIZE    what the guest writes in a second while it runs
guest.working-set=SIZE   how much memory it does that in
guest.touch-rate=SIZE    what it looks at in a second while memory is still to come (postcopy)
guest.other-faults=N     per cent of that which threads of the emulator look at
guest.touch-order=WORD   sequential or random: which pages come next
guest.fault-threads=on|off  whether the host's kernel tells which thread waits for a page
guest.fault-booking=NS   how long after a page has come the wait for it is booked as over
compat.NAME=VALUE        one row of qapi/compat.py
"""

from __future__ import annotations

from fakeqemu.vl.opts import take_value

TYPE_CHECKING = False

#: keys with a fixed set of words, keys with any text, keys that begin so
_WORDS = {
    "ram": ("wire", "model"), "kvm": ("off", "on"), "guest.touch-order": ("sequential", "random"),
    "guest.fault-threads": ("off", "on"),
}  # fmt: skip
_FREE = (
    "profile", "seed", "host", "scenario", "transcript", "clock", "guest.dirty-rate", "guest.fault-booking",
    "guest.other-faults",
    "guest.touch-rate", "guest.working-set",
)  # fmt: skip
_PREFIXES = ("compat.",)
_LATER = ("control",)

DEFAULT_PROFILE = "next"


class FakeError(ValueError):
    """A setting that is wrong; the text is for the user."""


def settings(texts: list[str]) -> dict[str, str]:
    """All settings of these texts, later ones winning; raises FakeError."""
    result: dict[str, str] = {}
    for text in texts:
        rest = text
        while rest:
            word, rest = take_value(rest)
            key, equals, value = word.partition("=")
            if not equals:
                raise FakeError(f"-fake: '{word}' is no key=value")
            _check(key, value)
            result[key] = value
    return result


def texts_of(argv: list[str]) -> list[str]:
    """The arguments of all `-fake` in a command line (words that are another option's argument may look like one)."""
    found = []
    for index, word in enumerate(argv[:-1]):
        if word in ("-fake", "--fake"):
            found.append(argv[index + 1])
    return found


def _check(key: str, value: str) -> None:
    words = _WORDS.get(key)
    if words is not None and value not in words:
        raise FakeError(f"-fake {key}: expects {' or '.join(words)}, not '{value}'")
    if key in _LATER:
        raise FakeError(f"-fake {key}: not emulated")
    if words is None and key not in _FREE and not key.startswith(_PREFIXES):
        raise FakeError(f"-fake: there is no setting '{key}'")
    if key == "guest.fault-booking" and not value.isdigit():
        raise FakeError(f"-fake {key}: expects a number of nanoseconds, not '{value}'")
    if key == "clock":
        clock_rate(value)


def clock_rate(text: str) -> float:
    """The rate of `clock=`: 1 for real, 0 for manual; raises FakeError."""
    if text == "real":
        return 1
    if text == "manual":
        return 0
    kind, _, rate = text.partition(":")
    try:
        value = float(rate) if kind == "scaled" else 0
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise FakeError(f"-fake clock: expects real, scaled:RATE or manual, not '{text}'")
    return value
