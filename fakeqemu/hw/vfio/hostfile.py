# SPDX-License-Identifier: MIT
"""The make-believe host from a file: `-fake host=FILE`, TOML or JSON. Loaded only when asked for.

    include-default = false          # true: the functions of the default host too

    [[functions]]
    name = "0000:3b:00.1"            # or the uuid of a mediated device
    group = 41                       # left out: no IOMMU group
    driver = "mlx5_vfio_pci"         # left out: vfio-pci; "": none is bound
    vendor-id = 0x15b3
    device-id = 0x101e

    [functions.migration]
    features = ["stop-copy", "p2p", "pre-copy", "pre-copy-v2", "dma-logging"]
    initial-bytes = 1048576
    stop-copy-bytes = 16777216
    dirty-bytes-per-s = 0

    [functions.migration.arcs]       # from>to, in ms; "stuck": until released
    shape = "mlx5-like"
    default-ms = 50
    jitter = 0.1
    latency-ms = { "resuming>stop" = 300 }
    failures = { "running-p2p>stop" = "EIO" }
    broken = ["running-p2p>stop"]    # these failures leave the device in ERROR

Errors name the place in the file.
"""

from __future__ import annotations

import errno
import json
import tomllib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_snake

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.hostmodel import HostFunction, HostModel, default_host
from fakeqemu.hw.vfio.vendor import STUCK_NS, Arcs, MigrationFeatures

#: shapes of latencies: (ms of an arc that is not named, ms of those that are)
SHAPES: dict[str, tuple[float, dict[str, float]]] = {
    "instant": (0, {}),
    "mlx5-like": (5, {"running>running-p2p": 30, "running-p2p>stop": 40, "pre-copy>pre-copy-p2p": 30,
                      "pre-copy-p2p>stop-copy": 40, "resuming>stop": 250}),
    "gpu-like": (300, {}),
}  # fmt: skip


def _check_arc(text: str) -> str:
    start, separator, end = text.partition(">")
    if not separator or start not in fsm.NUMBERS or end not in fsm.NUMBERS:
        raise ValueError("an arc is written from>to, with the names of two states")
    return text


def _check_errno(text: str) -> str:
    if not isinstance(getattr(errno, text, None), int):
        raise ValueError("an error is written as the name of an errno, such as EIO")
    return text


def _kebab(name: str) -> str:
    return to_snake(name).replace("_", "-")


Arc = Annotated[str, AfterValidator(_check_arc)]
Errno = Annotated[str, AfterValidator(_check_errno)]
Milliseconds = Annotated[float, Field(ge=0)]
Id16 = Annotated[int, Field(ge=0, le=0xFFFF)]
Bytes = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=_kebab, populate_by_name=True)


class ArcsFile(_Model):
    """How long arcs take and which ones fail."""

    shape: Literal["instant", "mlx5-like", "gpu-like"] | None = None
    default_ms: Milliseconds | None = None
    latency_ms: dict[Arc, Milliseconds | Literal["stuck"]] = {}
    jitter: Annotated[float, Field(ge=0, le=10)] = 0.0
    failures: dict[Arc, Errno] = {}
    broken: list[Arc] = []

    def build(self) -> Arcs:
        default_ms, latencies = SHAPES[self.shape or "instant"]
        if self.default_ms is not None:
            default_ms = self.default_ms
        merged: dict[str, float | str] = {**latencies, **self.latency_ms}
        return Arcs(
            int(default_ms * NS_PER_MS),
            {arc: STUCK_NS if isinstance(ms, str) else int(ms * NS_PER_MS) for arc, ms in merged.items()},
            self.jitter,
            {arc: getattr(errno, name) for arc, name in self.failures.items()},
            tuple(self.broken),
        )


_FLAGS = {"stop-copy": fsm.FLAG_STOP_COPY, "p2p": fsm.FLAG_P2P, "pre-copy": fsm.FLAG_PRE_COPY}


class MigrationFile(_Model):
    """What the device's driver can do for migration; without `features` it can do nothing."""

    features: list[Literal["stop-copy", "p2p", "pre-copy", "pre-copy-v2", "dma-logging"]] = []
    initial_bytes: Bytes = 1 << 20
    dirty_bytes_per_s: Bytes = 0
    stop_copy_bytes: Bytes = 1 << 20
    query_error: Errno = "ENOTTY"
    arcs: ArcsFile = ArcsFile()

    def build(self) -> MigrationFeatures:
        return MigrationFeatures(
            sum(_FLAGS.get(feature, 0) for feature in dict.fromkeys(self.features)),
            precopy_v2="pre-copy-v2" in self.features,
            dma_logging="dma-logging" in self.features,
            initial_bytes=self.initial_bytes,
            dirty_bytes_per_s=self.dirty_bytes_per_s,
            stop_copy_bytes=self.stop_copy_bytes,
            arcs=self.arcs.build(),
            query_errno=getattr(errno, self.query_error),
        )


class FunctionFile(_Model):
    """One PCI function, or a mediated device."""

    name: Annotated[
        str,
        Field(pattern=r"^([0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"),
    ]
    group: Annotated[int, Field(ge=0)] | None = None
    driver: str = "vfio-pci"
    vendor_id: Id16 = 0x15B3
    device_id: Id16 = 0x101E
    subsystem_vendor_id: Id16 = 0x15B3
    subsystem_id: Id16 = 0x0058
    class_code: Annotated[int, Field(ge=0, le=0xFFFFFF)] = 0x020000
    revision: Annotated[int, Field(ge=0, le=0xFF)] = 0
    bar_sizes: Annotated[list[Bytes], Field(max_length=3)] = [0x100000]
    group_error: Errno | None = None
    reset_works: bool = True
    migration: MigrationFile = MigrationFile()

    def build(self) -> HostFunction:
        return HostFunction(
            self.name,
            group=self.group,
            driver=self.driver or None,
            ids=(self.vendor_id, self.device_id, self.subsystem_vendor_id, self.subsystem_id),
            class_code=self.class_code,
            revision=self.revision,
            bar_sizes=tuple(self.bar_sizes),
            migration=self.migration.build(),
            mdev="-" in self.name,
            group_errno=getattr(errno, self.group_error) if self.group_error is not None else 0,
            reset_works=self.reset_works,
        )


class HostFile(_Model):
    """The whole file."""

    include_default: bool = False
    functions: list[FunctionFile] = []

    def build(self) -> HostModel:
        functions = [function.build() for function in self.functions]
        if self.include_default:
            named = {function.name for function in functions}
            functions += [known for known in default_host().functions.values() if known.name not in named]
        return HostModel(functions)


def load(path: str) -> HostModel:
    """Read a host file; raises QemuError that names the file, and the place in it."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
        data: Any = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
        return HostFile.model_validate(data).build()
    except OSError as err:
        raise QemuError(f"host file '{path}': {err.strerror}") from None
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise QemuError(f"host file '{path}': {place}: {first['msg']}") from None
    except ValueError as err:  # not TOML, not JSON, not UTF-8
        raise QemuError(f"host file '{path}': {err}") from None
