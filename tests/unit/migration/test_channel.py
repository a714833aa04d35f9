# SPDX-License-Identifier: MIT
"""URIs and channel lists. The words were asked of real QEMUs."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.migration.channel import parse_uri, resolve
from fakeqemu.qapi.profile import VersionProfile

NEW = VersionProfile.load("11.1").compat
MIDDLE = VersionProfile.load("10.0").compat
OLD = VersionProfile.load("7.2").compat


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("tcp:h:1", {"transport": "socket", "type": "inet", "host": "h", "port": "1"}),
        ("tcp:[::1]:1", {"transport": "socket", "type": "inet", "host": "::1", "port": "1"}),
        ("tcp::1", {"transport": "socket", "type": "inet", "host": "", "port": "1"}),
        ("tcp:a:b:c", {"transport": "socket", "type": "inet", "host": "a", "port": "b:c"}),
        (
            "tcp:h:1,ipv4,to=5",
            {"transport": "socket", "type": "inet", "host": "h", "port": "1", "ipv4": True, "to": 5},
        ),
        ("unix:a,b=c", {"transport": "socket", "type": "unix", "path": "a,b=c"}),
        ("vsock:1:2", {"transport": "socket", "type": "vsock", "cid": "1", "port": "2"}),
        ("fd:x", {"transport": "socket", "type": "fd", "str": "x"}),
        ("exec:", {"transport": "exec", "args": ["/bin/sh", "-c", ""]}),
        ("file:/x,offset=1M", {"transport": "file", "filename": "/x", "offset": 1 << 20}),
        ("file:/x,y=1", {"transport": "file", "filename": "/x,y=1", "offset": 0}),
        ("rdma:h:1", {"transport": "rdma", "host": "h", "port": "1"}),
    ],
)
def test_addresses(uri: str, address: dict[str, Any]) -> None:
    assert parse_uri(NEW, uri) == address


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("", "unknown migration protocol: "),
        ("defer", "unknown migration protocol: defer"),
        ("nosuch:x", "unknown migration protocol: nosuch:x"),
        ("tcp:", "error parsing address ''"),
        ("tcp:h", "error parsing address 'h'"),
        ("tcp:[::1:1", "error parsing IPv6 address '[::1:1'"),
        ("tcp:[::1]", "error parsing IPv6 address '[::1]'"),
        ("tcp:h:1,bogus=on", "Invalid parameter 'bogus'"),
        ("tcp:h:1,ipv4=x", "Parameter 'ipv4' expects 'on' or 'off'"),
        ("tcp:h:1,to=x", "Parameter 'to' expects a number"),
        ("unix:", "invalid Unix socket address"),
        ("fd:", "invalid file descriptor address"),
        ("vsock:x", "error parsing address 'x'"),
        ("vsock::2", "error parsing address ':2'"),
        ("file:/x,offset=zz", "file URI has bad offset zz: Invalid argument"),
        ("file:/x,offset=", "file URI has bad offset : Invalid argument"),
        ("file:/x,offset=-1", "file URI has bad offset -1: Numerical result out of range"),
        ("file:/x,offset=99999999999999999999",
         "file URI has bad offset 99999999999999999999: Numerical result out of range"),
    ],
)  # fmt: skip
def test_refusals(uri: str, text: str) -> None:
    with pytest.raises(QemuError) as caught:
        parse_uri(NEW, uri)
    assert caught.value.desc == text


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("nosuch:x", "Parameter 'uri' expects a valid migration protocol"),
        ("file:/x", "Parameter 'uri' expects a valid migration protocol"),
        ("tcp:h:1,ipv4=x", "error parsing 'ipv4' flag '=x'"),
        ("tcp:h:1,to=x", "error parsing to= argument"),
        ("tcp:h:,x", "error parsing address 'h:,x'"),
    ],
)
def test_refusals_of_old(uri: str, text: str) -> None:
    with pytest.raises(QemuError) as caught:
        parse_uri(OLD, uri)
    assert caught.value.desc == text


def test_old_releases_pass_over_options_that_they_do_not_know() -> None:
    assert parse_uri(MIDDLE, "tcp:h:1,bogus=on")["port"] == "1"


def main(**address: Any) -> dict[str, Any]:
    return {"channel-type": "main", "addr": address}


def test_one_of_uri_and_channels() -> None:
    one = main(transport="exec", args=["true"])
    for uri, channels in ((None, None), (None, []), ("tcp:h:1", [one])):
        with pytest.raises(QemuError, match=r"^need either 'uri' or 'channels' argument$"):
            resolve(NEW, uri, channels)
    assert resolve(NEW, None, [one]) == {"transport": "exec", "args": ["true"]}
    assert resolve(NEW, "unix:/x", [])["path"] == "/x"
    with pytest.raises(QemuError, match=r"^Channel list has more than one main entry$"):
        resolve(NEW, None, [one, one])
    with pytest.raises(QemuError, match=r"^Channel list has no main entry$"):
        resolve(NEW, None, [{"channel-type": "cpr", "addr": {}}])
