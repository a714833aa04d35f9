# SPDX-License-Identifier: MIT
"""-smp: what is left out follows from what is given; the numbers and words are those of real QEMUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import QemuError
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.system.smp import SmpTopology, from_text, parse_config

NEW, OLD = VersionProfile.load("11.1").compat, VersionProfile.load("7.2").compat


def parse(config: dict[str, int], *, prefer_sockets: bool = False) -> SmpTopology:
    topology, _ = parse_config(
        config, family="q35", machine="m", max_cpus=4096, prefer_sockets=prefer_sockets, compat=NEW
    )
    return topology


def test_cores_are_worked_out_first() -> None:
    topology = parse({"cpus": 8})
    assert (topology.sockets, topology.cores, topology.threads, topology.maxcpus) == (1, 8, 1, 8)


def test_machine_types_before_6_2_work_out_sockets_first() -> None:
    topology = parse({"cpus": 8}, prefer_sockets=True)
    assert (topology.sockets, topology.cores, topology.threads) == (8, 1, 1)


def test_without_cpus_the_product_counts() -> None:
    topology = parse({"sockets": 2, "cores": 3, "threads": 2})
    assert (topology.cpus, topology.maxcpus) == (12, 12)


def test_maxcpus_leaves_places_free() -> None:
    topology = parse({"cpus": 2, "maxcpus": 8, "cores": 2})
    assert (topology.cpus, topology.maxcpus, topology.sockets) == (2, 8, 4)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"cpus": 2, "cores": 3},
            "Invalid CPU topology: product of the hierarchy must match maxcpus: "
            "sockets (0) * dies (1) * modules (1) * cores (3) * threads (1) != maxcpus (2)",
        ),
        (
            {"cpus": 4, "maxcpus": 2},
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
            "sockets (1) * dies (1) * modules (1) * cores (2) * threads (1) == maxcpus (2) < smp_cpus (4)",
        ),
        ({"cpus": 0}, "Invalid CPU topology: CPU topology parameters must be greater than zero"),
        ({"cpus": 2, "clusters": 2}, "clusters > 1 not supported by this machine's CPU topology"),
        ({"cpus": -1}, "Invalid SMP CPUs -1. The max CPUs supported by machine 'm' is 4096"),
        ({"cpus": 4097}, "Invalid SMP CPUs 4097. The max CPUs supported by machine 'm' is 4096"),
    ],
)
def test_a_topology_that_cannot_be_is_refused_in_qemus_words(config: dict[str, int], text: str) -> None:
    with pytest.raises(QemuError) as refused:
        parse(config)
    assert refused.value.desc == text


def test_old_releases_warn_of_a_zero_and_go_on() -> None:
    topology, warning = parse_config(
        {"cpus": 0}, family="q35", machine="m", max_cpus=288, prefer_sockets=False, compat=OLD
    )
    assert topology.cpus == 1
    assert warning is not None
    assert warning.startswith("Deprecated CPU topology")


def test_a_member_that_is_no_number_is_named() -> None:
    with pytest.raises(QemuError, match=r"^Parameter 'smp.sockets' expects integer$"):
        from_text(NEW, {"cpus": "2", "sockets": "x"})


def test_old_releases_know_no_modules() -> None:
    with pytest.raises(QemuError, match=r"^Parameter 'smp.modules' is unexpected$"):
        from_text(OLD, {"modules": "1"})
    assert "modules" not in SmpTopology().as_qapi(OLD)
    assert SmpTopology().as_qapi(NEW)["modules"] == 1


@given(
    sockets=st.integers(1, 4), dies=st.integers(1, 3), modules=st.integers(1, 2), cores=st.integers(1, 5),
    threads=st.integers(1, 2),
)  # fmt: skip
def test_every_cpu_has_a_place_and_an_apic_id_of_its_own(
    sockets: int, dies: int, modules: int, cores: int, threads: int
) -> None:
    topology = parse({"sockets": sockets, "dies": dies, "modules": modules, "cores": cores, "threads": threads})
    places = [tuple(topology.ids(index).items()) for index in range(topology.maxcpus)]
    assert len(set(places)) == topology.maxcpus
    apic_ids = [topology.apic_id(index) for index in range(topology.maxcpus)]
    assert apic_ids == sorted(set(apic_ids))
