# SPDX-License-Identifier: MIT
"""Integers, strings and ends of a QEMUFile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.host.sync import run_sync
from fakeqemu.migration.stream.qemu_file import EndOfStream, QEMUFile


def test_what_is_put_is_big_endian() -> None:
    f = QEMUFile()
    f.put_byte(1)
    f.put_be16(0x203)
    f.put_be32(0x4050607)
    f.put_be64(0x8090A0B0C0D0E0F)
    f.put_counted_string("ram")
    assert f.bytes_transferred == 1 + 2 + 4 + 8 + 4
    assert f.getvalue() == bytes(range(1, 16)) + b"\x03ram"


@given(st.lists(st.tuples(st.sampled_from(["be32", "be64", "byte"]), st.integers(0, 255))))
def test_what_is_put_is_got(items: list[tuple[str, int]]) -> None:
    f = QEMUFile()
    for kind, value in items:
        getattr(f, f"put_{kind}")(value)
    g = QEMUFile.over(f.getvalue())
    for kind, value in items:
        assert run_sync(getattr(g, f"get_{kind}")()) == value
    with pytest.raises(EndOfStream):
        run_sync(g.get_byte())


@given(st.lists(st.binary(max_size=9000)))
def test_buffers_of_any_size_stay_in_order(buffers: list[bytes]) -> None:
    f = QEMUFile()
    for one in buffers:
        f.put_buffer(one)
    assert f.bytes_transferred == sum(map(len, buffers))
    assert f.getvalue() == b"".join(buffers)


def test_peeking_takes_nothing() -> None:
    f = QEMUFile.over(b"abc")
    assert run_sync(f.peek(1)) == b"a"
    assert run_sync(f.peek(2)) == b"ab"
    assert run_sync(f.peek(9)) == b"abc"
    assert run_sync(f.get_buffer(3)) == b"abc"


def test_a_short_read_forgets_what_was_there() -> None:
    f = QEMUFile.over(b"abc")
    with pytest.raises(EndOfStream):
        run_sync(f.get_be32())
    with pytest.raises(EndOfStream):
        run_sync(f.get_byte())


def test_dropping_more_than_there_is_ends() -> None:
    f = QEMUFile.over(bytes(100))
    run_sync(f.drop(60))
    with pytest.raises(EndOfStream):
        run_sync(f.drop(1 << 40))
