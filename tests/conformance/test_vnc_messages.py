# SPDX-License-Identifier: MIT
"""What clients of VNC say once they are in, with ours and with the real ones: good and bad messages, and who may stay."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.conformance._vnc import (
    PROBE,
    PROBE_ANSWER_BYTES,
    Both,
    VncEmulator,
    both,
    greet,
    hang_up,
    initialize,
    lives,
    read,
    say,
)

pytestmark = [pytest.mark.real_qemu, pytest.mark.in_turn("both")]
__all__ = ["both"]

POINTER, EXT_KEY, AUDIO, LED, RESIZE_EXT, XVP, WMVI, CLIPBOARD = (
    -257,
    -258,
    -259,
    -261,
    -308,
    -309,
    0x574D5669,
    0xC0A1E5CE - 2**32,
)
RESIZE, RICH_CURSOR, ALPHA_CURSOR = -223, -239, -314
EVERYTHING = (
    RESIZE, RESIZE_EXT, POINTER, RICH_CURSOR, ALPHA_CURSOR, EXT_KEY, AUDIO, LED, XVP, WMVI, CLIPBOARD, 0, 7, 5, 16, 6,
)  # fmt: skip


def encodings(*numbers: int) -> bytes:
    return struct.pack(f">BxH{len(numbers)}i", 2, len(numbers), *numbers)


def pixel_format(bits: int, depth: int, big: int, true: int, maxima: Any = (0, 0, 0), shifts: Any = (0, 0, 0)) -> bytes:
    return struct.pack(">B3xBBBBHHHBBB3x", 0, bits, depth, big, true, *maxima, *shifts)


def cut_text(length: int, data: bytes = b"") -> bytes:
    return struct.pack(">B3xi", 6, length) + data


def request(incremental: int, x: int, y: int, width: int, height: int) -> bytes:
    return struct.pack(">BBHHHH", 3, incremental, x, y, width, height)


def desktop_size(width: int, height: int, screens: int = 1) -> bytes:
    screen = struct.pack(">IHHHHI", 0, 0, 0, width, height, 0)
    return struct.pack(">BxHHBx", 251, width, height, screens) + screen * screens


MESSAGES: dict[str, list[bytes]] = {
    "key": [struct.pack(">BBxxI", 4, 1, 97), struct.pack(">BBxxI", 4, 0, 97), struct.pack(">BBxxI", 4, 1, 0xFFFFFFFF)],
    "pointer": [struct.pack(">BBHH", 5, 1, 3, 4), struct.pack(">BBHH", 5, 255, 65535, 65535)],
    "text": [cut_text(3, b"abc"), cut_text(0), cut_text(1 << 20, bytes(1 << 20))],
    "too much text": [cut_text((1 << 20) + 1)],
    "as much text as there can be": [cut_text(-(1 << 31))],
    "extended text that nobody announced": [cut_text(-8, bytes(8))],
    "too much extended text": [encodings(CLIPBOARD), cut_text(-(1 << 20) - 1)],
    "extended text": [encodings(CLIPBOARD), *(cut_text(-4, struct.pack(">I", 1 << bit)) for bit in (24, 25, 26))],
    "extended text without a header": [encodings(CLIPBOARD), cut_text(-3, b"abc")],
    "power that nobody announced": [struct.pack(">BBBB", 250, 0, 1, 2)],
    "power": [encodings(XVP), *(struct.pack(">BBBB", 250, 0, 1, action) for action in (2, 3, 4, 5, 9))],
    "power of another version": [encodings(XVP), struct.pack(">BBBB", 250, 0, 2, 2)],
    "key by its place": [struct.pack(">BBHII", 255, 0, 1, 97, 30)],
    "sound of no kind": [struct.pack(">BBH", 255, 1, 7)],
    "QEMU's own of no kind": [struct.pack(">BB", 255, 9)],
    "size": [desktop_size(800, 600), desktop_size(0, 0, 0), desktop_size(1, 1, 3)],
    "most screens": [desktop_size(1, 1, 255)],
    "no encodings": [encodings()],
    "each encoding": [encodings(number) for number in EVERYTHING if number != AUDIO],
    "all encodings": [encodings(*(number for number in EVERYTHING if number != AUDIO))],
    "all encodings backwards": [encodings(*(number for number in reversed(EVERYTHING) if number != AUDIO))],
    "sound": [encodings(AUDIO)],
    "most encodings": [encodings(*[0] * 65535)],
    "pixels of 16 bits": [pixel_format(16, 16, 0, 1, (31, 63, 31), (11, 5, 0))],
    "pixels of 24 bits": [pixel_format(24, 24, 0, 1, (255, 255, 255), (16, 8, 0))],
    "pixels of no bits": [pixel_format(0, 0, 0, 1)],
    "a map of colours": [pixel_format(32, 24, 1, 0)],
    "a map of few colours": [pixel_format(8, 8, 0, 0, (1, 1, 1), (9, 9, 9))],
    **{f"message {number}": [bytes((number,))] for number in (1, 7, 8, 100, 248, 249, 252, 253, 254)},
}


@pytest.mark.parametrize(
    "machine", [["-machine", "none"], ["-machine", "q35", "-device", "virtio-vga"]], ids=["none", "virtio"]
)
def test_messages(both: Both, machine: list[str]) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for name, messages in MESSAGES.items():
            with emulator.client() as client:
                greet(client)
                try:
                    client.sendall(b"".join(messages) + PROBE)
                except OSError:
                    pass
                said.append((name, hang_up(client)))
        events = emulator.wait_for("VNC_DISCONNECTED", len(MESSAGES))
        said.append(sorted(event["event"] for event in events))
        said.append(sorted(line for line in (emulator.folder / "err").read_text().splitlines() if "module" not in line))
        return said

    both(story, *machine, "-vnc", "unix:v,power-control=on")


def test_power_without_power_control(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        with emulator.client() as client:
            greet(client)
            client.sendall(encodings(XVP) + PROBE + struct.pack(">BBBB", 250, 0, 1, 2))
            return [hang_up(client), emulator.wait_for("VNC_DISCONNECTED")]

    both(story, "-vnc", "unix:v")


@pytest.mark.parametrize("announced", [True, False])
def test_sound(both: Both, announced: bool) -> None:
    form = struct.pack(">BBHBBI", 255, 1, 2, 3, 2, 44100)
    stories = [
        [struct.pack(">BBH", 255, 1, kind) for kind in (0, 0, 1, 1, 0)] + [form],
        [struct.pack(">BBHBBI", 255, 1, 2, sample, 2, 44100) for sample in range(7)],
        [struct.pack(">BBHBBI", 255, 1, 2, 3, 3, 44100)],
        [struct.pack(">BBHBBI", 255, 1, 2, 3, 1, 48000)],
        [struct.pack(">BBHBBI", 255, 1, 2, 3, 1, 48001)],
    ]

    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for messages in stories:
            with emulator.client() as client:
                greet(client)
                say(client, (encodings(AUDIO) if announced else b"") + b"".join(messages) + PROBE)
                said.append(hang_up(client))
        emulator.wait_for("VNC_DISCONNECTED", len(stories))
        return [said, [line for line in (emulator.folder / "err").read_text().splitlines() if "module" not in line]]

    both(story, "-audiodev", "none,id=a", "-vnc", "unix:v,audiodev=a")


#: what is asked for, and how many bytes come: letters are drawn by the real one, so not which
REQUESTS = [
    ((0, 0, 0, 640, 480), 4, 1), ((0, 5, 5, 20, 3), 4, 1), ((0, 0, 479, 1, 1), 4, 1), ((0, 639, 0, 1, 480), 4, 1),
    ((0, 16, 16, 16, 16), 4, 1), ((0, 17, 0, 15, 2), 4, 1), ((0, 0, 0, 65535, 1), 4, 1), ((0, 630, 470, 100, 100), 4, 1),
]  # fmt: skip


def test_updates(both: Both) -> None:
    """The rectangles that come for what is asked for; their size in bytes follows from the form of the pixels."""

    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for bits in (32, 16, 8):
            with emulator.client() as client:
                greet(client)
                client.sendall(pixel_format(bits, bits, 0, 1, (7, 7, 3), (0, 3, 6)))
                for asked, _, _ in REQUESTS:
                    client.sendall(request(*asked))
                    head = read(client, 16)
                    _x, _y, width, height, encoding = struct.unpack(">HHHHi", head[4:])
                    pixels = read(client, width * height * bits // 8)
                    said.append((bits, asked, head, len(pixels), encoding))
                said.append(lives(client))
        return said

    both(story, "-vnc", "unix:v")


def test_size_comes_with_each_whole_update(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        with emulator.client() as client:
            greet(client)
            client.sendall(request(0, 0, 0, 640, 480))
            read(client, 16 + 4 * 640 * 480)
            client.sendall(encodings(RESIZE_EXT) + request(0, 0, 0, 16, 1))
            return [read(client, 36), read(client, 16 + 64), lives(client)]

    both(story, "-vnc", "unix:v")


def test_cut_within_a_message(both: Both) -> None:
    whole = encodings(EXT_KEY, LED) + pixel_format(16, 16, 0, 1, (31, 63, 31), (11, 5, 0)) + cut_text(5, b"hello")

    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for count in range(len(whole) + 1):
            with emulator.client() as client:
                greet(client)
                client.sendall(whole[:count])
                said.append(hang_up(client))
        said.append(len(emulator.wait_for("VNC_DISCONNECTED", len(whole) + 1)))
        return said

    both(story, "-vnc", "unix:v")


# --- sharing ----------------------------------------------------------------------------------------------

#: one after the other: share (1), be alone (0), or not say (.)
ARRIVALS = [
    "1",
    "0",
    "11",
    "10",
    "01",
    "00",
    "1101",
    "1110",
    "0101",
    ".0",
    ".01",
    "1.0",
    "1111.",
    "11111",
    "...",
    "....1",
    "1010",
]


@pytest.mark.parametrize("options", ["", "share=ignore", "share=allow-exclusive", "share=force-shared"])
@pytest.mark.parametrize("limit", ["", "connections=0", "connections=1", "connections=2", "connections=3"])
def test_who_may_stay(both: Both, options: str, limit: str) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        gone = 0
        for arrivals in ARRIVALS:
            clients = []
            for arrival in arrivals:
                client = emulator.client()
                clients.append(client)
                greet(client, shared=None)
                said.append(b"" if arrival == "." else initialize(client, int(arrival)))
            staying = []
            for client, arrival in zip(clients, arrivals, strict=True):
                if arrival == ".":
                    said.append(len(initialize(client)))  # who waited until now, and was let wait
                staying.append(lives(client))
            said.append((arrivals, staying))
            for client in clients:
                client.close()
            gone += len(clients)
            emulator.wait_for("VNC_DISCONNECTED", gone)
        said.append(sorted(event["event"] for event in emulator.events))
        said.append(emulator.execute("query-vnc"))
        return said

    both(story, "-vnc", ",".join(filter(None, ["unix:v", options, limit])))


def test_answers_are_read_when_the_client_likes(both: Both) -> None:
    """Thirty updates that nobody reads for now; then all that was asked for comes, or a part that stands for the rest."""

    def story(emulator: VncEmulator) -> list[Any]:
        with emulator.client() as client:
            greet(client)
            for _ in range(30):
                client.sendall(request(0, 0, 0, 640, 480))
            client.sendall(PROBE)
            heard = 0
            while True:
                head = read(client, PROBE_ANSWER_BYTES)
                if head[12:] == struct.pack(">i", EXT_KEY):
                    return [heard > 0, emulator.execute("query-status")]
                heard += len(read(client, 640 * 480 * 4))

    both(story, "-vnc", "unix:v")
