# SPDX-License-Identifier: MIT
"""What multifd channels do to pages on their way: nothing, zlib or zstd.

One stream of compressed bytes lasts as long as its channel and is flushed at the end of each packet, so that a packet
can be unpacked when it has come, and profits from all before it. zstd is not in the standard library of all releases of
Python that we run on; where it is not, the optional extra `compression` brings it.

QEMU: migration/multifd-nocomp.c, multifd-zlib.c, multifd-zstd.c
"""

from __future__ import annotations

import zlib

from fakeqemu.error import NotEmulated, QemuError, StreamError
from fakeqemu.migration.stream import multifd_packet as mp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fakeqemu.system.machine import Machine

    Buffers = Sequence[bytes | memoryview]

_MAX_PAGES_SIZE = mp.PACKET_PAGES * 4096
#: QEMU's receivers have room for compressed bytes of twice a packet's pages
_MAX_COMPRESSED = 2 * _MAX_PAGES_SIZE


class Compression:
    """Pages as they are; base of all others. Of one channel, and either for sending or for receiving."""

    __slots__ = ()

    flag = mp.MULTIFD_FLAG_NOCOMP

    # A library that has no memory left, or finds that something is wrong; faults are injected there.

    def check_setup(self, vm: Machine, channel: int) -> None:
        """(source) Raises QemuError."""

    def check_pack(self, vm: Machine, channel: int) -> None:
        """(source) Raises QemuError."""

    def check_load_setup(self, vm: Machine, channel: int) -> None:
        """(destination) Raises StreamError."""

    def check_unpack(self, vm: Machine, channel: int) -> None:
        """(destination) Raises StreamError."""

    def pack(self, pages: Buffers) -> Buffers:
        """The bytes of a packet's pages as they travel."""
        return pages

    def wire_size(self, next_packet_size: int, size: int, channel: int) -> int:  # noqa: ARG002
        """How many bytes follow the header of a packet whose pages have `size` bytes; raises StreamError."""
        return size

    def unpack(self, data: bytes | memoryview, size: int, channel: int) -> bytes | memoryview:  # noqa: ARG002
        """The pages of a packet, `size` bytes; raises StreamError. `channel` is for the words."""
        return data


class _Compressed(Compression):
    __slots__ = ()

    def wire_size(self, next_packet_size: int, size: int, channel: int) -> int:  # noqa: ARG002
        if next_packet_size > _MAX_COMPRESSED:
            raise StreamError(
                f"multifd {channel}: next_packet_size {next_packet_size} exceeds allocated {_MAX_COMPRESSED}"
            )
        return next_packet_size


class ZlibCompression(_Compressed):
    __slots__ = ("_stream",)

    flag = mp.MULTIFD_FLAG_ZLIB

    def __init__(self, level: int | None) -> None:
        """`level` to send with; None to receive."""
        self._stream: Any = zlib.decompressobj() if level is None else zlib.compressobj(level)

    def check_setup(self, vm: Machine, channel: int) -> None:
        vm.faults.check("fake_multifd_zlib_send_setup", id=channel)

    def check_pack(self, vm: Machine, channel: int) -> None:
        vm.faults.check("fake_multifd_zlib_send_prepare", id=channel)

    def check_load_setup(self, vm: Machine, channel: int) -> None:
        vm.faults.check("fake_multifd_zlib_recv_setup", id=channel)

    def check_unpack(self, vm: Machine, channel: int) -> None:
        vm.faults.check("fake_multifd_zlib_recv", id=channel)

    def pack(self, pages: Buffers) -> Buffers:
        parts = [self._stream.compress(page) for page in pages]
        parts.append(self._stream.flush(zlib.Z_SYNC_FLUSH))
        return [b"".join(parts)]

    def unpack(self, data: bytes | memoryview, size: int, channel: int) -> bytes | memoryview:
        try:
            pages: bytes = self._stream.decompress(data, size)  # what is left over is dropped, as by QEMU
        except zlib.error as err:
            number = int(str(err).split()[1])  # "Error -3 while decompressing data: ..."
            raise StreamError(f"multifd {channel}: inflate returned {number} instead of Z_OK") from None
        if self._stream.eof:  # the channel's stream never ends
            raise StreamError(f"multifd {channel}: inflate returned 1 instead of Z_OK")
        if len(pages) < size:
            raise StreamError(f"multifd {channel}: inflate generated too few output")
        return pages


class ZstdCompression(_Compressed):
    __slots__ = ("_pack", "_unpack")

    flag = mp.MULTIFD_FLAG_ZSTD

    def __init__(self, level: int | None) -> None:
        """`level` to send with; None to receive. Raises NotEmulated without a library."""
        library = _zstd()
        self._pack: Any = None
        self._unpack: Any = None
        if level is None:
            self._unpack = library.receiver()
        else:
            self._pack = library.sender(level)

    def check_setup(self, vm: Machine, channel: int) -> None:
        vm.faults.check("fake_multifd_zstd_send_setup", id=channel)

    def check_pack(self, vm: Machine, channel: int) -> None:
        vm.faults.check("fake_multifd_zstd_send_prepare", id=channel)

    def check_load_setup(self, vm: Machine, channel: int) -> None:
        vm.faults.check("fake_multifd_zstd_recv_setup", id=channel)

    def check_unpack(self, vm: Machine, channel: int) -> None:
        vm.faults.check("fake_multifd_zstd_recv", id=channel)

    def pack(self, pages: Buffers) -> Buffers:
        return [self._pack(pages)]

    def unpack(self, data: bytes | memoryview, size: int, channel: int) -> bytes | memoryview:
        try:
            pages: bytes = self._unpack(data, size + 1)
        except QemuError as err:
            raise StreamError(f"multifd {channel}: decompressStream returned {err.desc}") from None
        if len(pages) < size:
            raise StreamError(f"multifd {channel}: decompressStream buffer too small")
        if len(pages) > size:
            raise StreamError(f"multifd {channel}: packet size received {len(pages)} size expected {size}")
        return pages


class _StandardZstd:
    """compression.zstd of Python 3.14."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def sender(self, level: int) -> Any:
        compressor = self._module.ZstdCompressor(level=level)

        def pack(pages: Buffers) -> bytes:
            parts = [compressor.compress(page) for page in pages]
            parts.append(compressor.flush(compressor.FLUSH_BLOCK))
            return b"".join(parts)

        return pack

    def receiver(self) -> Any:
        decompressor = self._module.ZstdDecompressor()

        def unpack(data: bytes | memoryview, limit: int) -> bytes:
            try:
                pages: bytes = decompressor.decompress(data, limit)
            except (self._module.ZstdError, EOFError) as err:
                raise QemuError(_reason(err)) from None
            return pages

        return unpack


class _Zstandard:
    """The package zstandard."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def sender(self, level: int) -> Any:
        # QEMU has a level 0, which the library takes for its default of 3; the package does so too.
        compressor = self._module.ZstdCompressor(level=level).compressobj()
        flush_block = self._module.COMPRESSOBJ_FLUSH_BLOCK

        def pack(pages: Buffers) -> bytes:
            parts = [compressor.compress(page) for page in pages]
            parts.append(compressor.flush(flush_block))
            return b"".join(parts)

        return pack

    def receiver(self) -> Any:
        room = _Room()
        # What a packet may hold comes in one piece: of several the last one would only come with the next packet.
        writer = self._module.ZstdDecompressor().stream_writer(room, write_size=_MAX_PAGES_SIZE + 1)

        def unpack(data: bytes | memoryview, limit: int) -> bytes:
            room.empty(limit)
            try:
                writer.write(data)
            except self._module.ZstdError as err:
                raise QemuError(_reason(err)) from None
            except _Full:
                pass
            return bytes(room.data)

        return unpack


class _Full(Exception):
    """There is more than was asked for."""


class _Room:
    """A file that takes what is unpacked, up to a limit: the few bytes of a packet may stand for gigabytes."""

    __slots__ = ("_limit", "data")

    def __init__(self) -> None:
        self._limit = 0
        self.data = bytearray()

    def empty(self, limit: int) -> None:
        self._limit = limit
        self.data = bytearray()

    def write(self, part: bytes) -> int:
        """Raises _Full."""
        self.data += part[: self._limit - len(self.data)]
        if len(self.data) == self._limit:
            raise _Full
        return len(part)


def _reason(err: Exception) -> str:
    """What the library itself says, without the words of its Python package."""
    return str(err).rpartition(": ")[2]


def _zstd() -> _StandardZstd | _Zstandard:
    try:
        from importlib import import_module

        return _StandardZstd(import_module("compression.zstd"))
    except ImportError:
        pass
    try:
        return _Zstandard(import_module("zstandard"))
    except ImportError:
        raise NotEmulated(
            "multifd-compression=zstd needs a library: install fakeqemu with the extra 'compression'"
        ) from None


def check(method: str) -> None:
    """Raise NotEmulated when that method of compression cannot be done here."""
    if method == "zstd":
        _zstd()
    elif method not in ("none", "zlib"):
        raise NotEmulated(f"Migration with multifd-compression={method} is not emulated")


def compression(options: Any, *, sending: bool) -> Compression:
    """What the parameters ask for, for one channel; `options` are the machine's MigrationOptions."""
    method = options.get("multifd-compression", "none")
    if method == "none":
        return Compression()
    level = options.get(f"multifd-{method}-level") if sending else None
    return ZlibCompression(level) if method == "zlib" else ZstdCompression(level)
