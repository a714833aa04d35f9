# SPDX-License-Identifier: MIT
"""What virtio devices send, of which a description has only the name of the whole and its size.

    {"name": "virtio", "type": "virtio", "size": 45526}

    state of the bus, status, features, configuration, queues in use, state of the device     as each has it
    subsections of `virtio`: rings of all queues, state of the bus for them, features ...     as below

QEMU: virtio_load and vmstate_virtio in hw/virtio/virtio.c, hw/virtio/virtio-pci.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Section = dict[str, Any]

VIRTIO = "virtio"
_QUEUES = 1024


def _plain(*fields: tuple[str, int]) -> list[Section]:
    return [{"name": name, "size": size} for name, size in fields]


def _of_queues(name: str, vmsd_name: str, fields: list[Section]) -> Section:
    size = sum(field["size"] * field.get("array_len", 1) for field in fields)
    struct = {"vmsd_name": vmsd_name, "version": 1, "fields": fields}
    return {"name": name, "array_len": _QUEUES, "type": "struct", "size": size, "struct": struct}


def _subsection(name: str, *fields: Section) -> Section:
    return {"vmsd_name": name, "version": 1, "fields": list(fields)}


_PAIRS = [{"name": name, "array_len": 2, "size": 4} for name in ("desc", "avail", "used")]
_PCI_QUEUE = [*_plain(("num", 2), ("unused", 1), ("enabled", 1)), *_PAIRS]
_PCI = {
    "vmsd_name": "virtio_pci",
    "version": 1,
    "fields": [],
    "subsections": [
        _subsection(
            "virtio_pci/modern_state",
            *_plain(("dfselect", 4), ("gfselect", 4)),
            {"name": "guest_features", "array_len": 2, "size": 4},
            _of_queues("vqs", "virtio_pci/modern_queue_state", _PCI_QUEUE),
        )
    ],
}
_PACKED = _plain(
    ("last_avail_idx", 2), ("last_avail_wrap_counter", 1), ("used_idx", 2), ("used_wrap_counter", 1), ("inuse", 4)
)
#: what may stand behind the device's own state
SUBSECTIONS = [
    _subsection("virtio/device_endian", *_plain(("device_endian", 1))),
    _subsection("virtio/64bit_features", *_plain(("guest_features", 8))),
    _subsection(
        "virtio/virtqueues", _of_queues("vq", "virtqueue_state", _plain(("vring.avail", 8), ("vring.used", 8)))
    ),
    _subsection("virtio/ringsize", _of_queues("vq", "ringsize_state", _plain(("vring.num_default", 4)))),
    _subsection("virtio/broken", *_plain(("broken", 1))),
    _subsection("virtio/extra_state", {"name": "extra_state", "type": "virtqueue_extra_state", "size": 0}),
    _subsection("virtio/started", *_plain(("started", 1))),
    _subsection("virtio/packed_virtqueues", _of_queues("vq", "packed_virtqueue_state", _PACKED)),
    _subsection("virtio/disabled", *_plain(("disabled", 1))),
]
#: what stands behind the front
DESC: Section = {"vmsd_name": VIRTIO, "fields": [], "subsections": SUBSECTIONS}
#: types of fields that readers of their own take, and what they read
ELEMENTS: dict[str, Section] = {"virtqueue_extra_state": _PCI}


def front_size(data: bytes) -> int:
    """How much of such a state stands before its subsections; -1 where these have not come."""
    starts = [data.find(_head(sub["vmsd_name"])) for sub in SUBSECTIONS]
    return min((at for at in starts if at >= 0), default=-1)


def _head(name: str) -> bytes:
    return bytes((5, len(name))) + name.encode()
