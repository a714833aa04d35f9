# SPDX-License-Identifier: MIT
"""The make-believe host: the default one, and one read from a file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.hw.vfio import fsm, hostfile
from fakeqemu.hw.vfio.hostmodel import default_host
from fakeqemu.hw.vfio.vendor import STUCK_NS

TOML = """
[[functions]]
name = "0000:3b:00.1"
group = 41
driver = "mlx5_vfio_pci"
vendor-id = 0x15b3

[functions.migration]
features = ["stop-copy", "p2p", "dma-logging"]
stop-copy-bytes = 16777216

[functions.migration.arcs]
shape = "mlx5-like"
default-ms = 7
latency-ms = { "resuming>stop" = 300, "stop>stop-copy" = "stuck" }
failures = { "running-p2p>stop" = "EIO" }
broken = ["running-p2p>stop"]

[[functions]]
name = "4b20d080-1b54-4048-85b3-a6a62d165c01"
group-error = "EBUSY"
"""


def write(folder: Path, text: str, name: str = "host.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_file_says_all_that_a_function_has(tmp_path: Path) -> None:
    host = hostfile.load(write(tmp_path, TOML))
    assert list(host.functions) == ["0000:3b:00.1", "4b20d080-1b54-4048-85b3-a6a62d165c01"]
    function, mediated = host.functions.values()
    features, arcs = function.migration, function.migration.arcs
    assert (function.group, function.driver, function.usable, function.mdev) == (41, "mlx5_vfio_pci", True, False)
    assert (features.flags, features.dma_logging) == (fsm.FLAG_STOP_COPY | fsm.FLAG_P2P, True)
    assert features.stop_copy_bytes == 16 << 20
    assert arcs.default_ns == 7 * NS_PER_MS
    assert arcs.latency_ns["resuming>stop"] == 300 * NS_PER_MS, "the file wins over the shape"
    assert arcs.latency_ns["running>running-p2p"] == 30 * NS_PER_MS, "the shape fills in the rest"
    assert arcs.latency_ns["stop>stop-copy"] == STUCK_NS
    assert arcs.failures == {"running-p2p>stop": errno.EIO}
    assert arcs.broken == ("running-p2p>stop",)
    assert (mediated.mdev, mediated.group, mediated.group_errno) == (True, None, errno.EBUSY)
    assert mediated.sysfs_path().startswith("/sys/bus/mdev/devices/")


def test_a_file_can_add_to_the_default_host_and_replace_its_functions(tmp_path: Path) -> None:
    host = hostfile.load(write(tmp_path, "include-default = true\n" + TOML))
    assert host.functions["0000:3b:00.1"].migration.flags == fsm.FLAG_STOP_COPY | fsm.FLAG_P2P
    assert host.functions["0000:3b:00.2"].migration.flags & fsm.FLAG_PRE_COPY


def test_json_is_read_too(tmp_path: Path) -> None:
    host = hostfile.load(write(tmp_path, '{"functions": [{"name": "0000:3b:00.1", "group": 3}]}', "host.json"))
    assert host.functions["0000:3b:00.1"].group == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("functions = 3", "functions: "),
        ('[[functions]]\nname = "3b:00.1"', "functions.0.name: "),
        ('[[functions]]\nname = "0000:3b:00.1"\ncolour = "red"', "functions.0.colour: "),
        ('[[functions]]\nname = "0000:3b:00.1"\nvendor-id = 65536', "functions.0.vendor-id: "),
        (
            '[[functions]]\nname = "0000:3b:00.1"\n[functions.migration.arcs.latency-ms]\n"here>there" = 1',
            "functions.0.migration.arcs.latency-ms",
        ),
        ("no toml at all", "host file"),
    ],
)
def test_a_wrong_file_is_named_with_the_place(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(QemuError) as refused:
        hostfile.load(path)
    assert refused.value.desc.startswith(f"host file '{path}': ")
    assert told in refused.value.desc


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QemuError) as refused:
        hostfile.load(str(tmp_path / "none.toml"))
    assert refused.value.desc == f"host file '{tmp_path}/none.toml': No such file or directory"


def test_the_default_host_has_fifteen_functions_that_migrate_alike() -> None:
    host = default_host()
    functions = [function for function in host.functions.values() if function.driver == "mlx5_vfio_pci"]
    assert [function.name for function in functions][::7] == ["0000:3b:00.1", "0000:3b:01.0", "0000:3b:01.7"]
    assert len({function.group for function in functions}) == 15
    assert all(function.migration.arcs.default_ns == 50 * NS_PER_MS for function in functions)


def test_a_path_names_a_function_by_its_last_part_but_only_below_its_own_bus() -> None:
    host = default_host()
    assert host.at_path("/sys/bus/pci/devices/0000:3b:00.1") is not None
    assert host.at_path("/sys/bus/pci/devices/0000:3b:00.1/") is not None
    assert host.at_path("/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1") is not None
    assert host.at_path("/sys/bus/mdev/devices/0000:3b:00.1") is None
    assert host.at_path("/tmp/0000:3b:00.1") is None
