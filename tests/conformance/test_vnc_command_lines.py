# SPDX-License-Identifier: MIT
"""Command lines with -vnc, given to ours and to the real ones: same exit status, same stderr, same files left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance._vnc import VERSIONS
from tests.conformance.test_command_lines import Run

pytestmark = pytest.mark.real_qemu

#: behind `-machine none -nodefaults`, unless the line names a machine
LINES = """
-vnc help
-vnc ?
-vnc 127.0.0.1:2,help
-vnc none,?
-display vnc
-display vnc=
-display vnc=none
-display vnc=unix:a
-display vnc=127.0.0.1:2411,to=3
-display vnc=:x
-display vnc=:2,foo=1
-display vnc,foo
-display vncx
-vnc ''
-vnc bogus
-vnc :
-vnc :x
-vnc 127.0.0.1:-1
-vnc 127.0.0.1:+2412
-vnc '127.0.0.1: 2412'
-vnc '127.0.0.1:2412 '
-vnc 127.0.0.1:0x10
-vnc 127.0.0.1:70000
-vnc 127.0.0.1:60000
-vnc 127.0.0.1:59635
-vnc 127.0.0.1:59636
-vnc 127.0.0.1:99999999999999999999
-vnc 127.0.0.1:2413,to=0
-vnc 127.0.0.1:2413,to=2420
-vnc 127.0.0.1:2413,to=70000
-vnc '[127.0.0.1]:2414,to=2'
-vnc 127.0.0.1:2415 -vnc 127.0.0.1:2415
-vnc 127.0.0.1:2416 -vnc 127.0.0.1:2416,to=2420
-vnc localhost:2417,to=2420
-vnc 300.1.1.1:1
-vnc nosuch.invalid:1
-vnc 8.8.8.8:1
-vnc 127.0.0.1:2418,ipv6=on
-vnc 127.0.0.1:2418,ipv4=off,ipv6=off
-vnc 127.0.0.1:2418,ipv4=on,to=2420
-vnc fd:3
-vnc /tmp/x
-vnc unix:a
-vnc unix:a -vnc unix:b
-vnc unix:a,vnc=unix:b
-vnc unix:a,id=x -vnc unix:b,id=x
-vnc unix:a,to=3
-vnc unix:
-vnc unix:/nonexistent/x
-vnc unix:a -vnc unix:/nonexistent/x
-vnc unix:a,vnc=unix:/nonexistent/x
-vnc unix:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
-vnc vnc=unix:a,id=7
-vnc vnc=
-vnc vnc=,vnc=none
-vnc none,vnc=unix:a
-vnc id=foo
-vnc password
-vnc password=on
-vnc none,foo=1
-vnc none,password=x
-vnc none,password
-vnc unix:a,password=on
-vnc none,share=bad
-vnc none,share=ignore
-vnc none,share=force-shared
-vnc none,connections=x
-vnc none,connections=-1
-vnc none,to=x
-vnc none,head=x
-vnc none,key-delay-ms=x
-vnc none,key-delay-ms=5,lock-key-sync=off,lossy=on,non-adaptive=on,power-control=on
-vnc none,lossy=x
-vnc none,non-adaptive=x
-vnc none,power-control=x
-vnc none,lock-key-sync=x
-vnc none,reverse=x
-vnc none,reverse
-vnc none,tls
-vnc none,acl
-vnc none,x509=/tmp
-vnc none,sasl=x
-vnc none,tls-authz=t
-vnc none,tls-creds=t
-vnc none,sasl-authz=t
-vnc none,audiodev=a
-vnc none,audiodev=a,share=bad
-audiodev none,id=a -vnc none,audiodev=a
-audiodev none,id=a -vnc none,audiodev=b
-audiodev '{"id":"audio1","driver":"none"}' -vnc unix:a,password=on,audiodev=audio1
-audiodev none
-audiodev none,id=a -audiodev none,id=a
-audiodev ''
-audiodev id=a
-audiodev '{bad'
-vnc none,display=x
-vnc none,display=x,audiodev=a
-vnc none,password=on,password-secret=s
-vnc none,password-secret=s
-object secret,id=s,data=abc -vnc none,password-secret=s
-object secret,id=s,data=/w==,format=base64 -vnc none,password-secret=s
-object rng-builtin,id=s -vnc none,password-secret=s
-object authz-simple,id=t,identity=x -vnc none,tls-creds=t
-object tls-creds-anon,id=t,endpoint=client -vnc none,tls-creds=t
-object tls-creds-anon,id=t,endpoint=server -vnc none,tls-creds=t
-object tls-creds-anon,id=t,endpoint=server -vnc none,tls-creds=t,tls-authz=nosuch
-object tls-creds-anon,id=t,endpoint=server -vnc unix:a,tls-creds=t,share=bad
-vnc unix:a,reverse=on
-vnc unix:a,vnc=unix:b,reverse=on
-vnc none,reverse=on
-vnc 127.0.0.1:1,reverse=on
-vnc 127.0.0.1:70000,reverse=on
-vnc 127.0.0.1:1,reverse=on,websocket=on
-vnc none,websocket=on
-vnc :x,websocket=on
-vnc none -vnc none,id=vnc2 -vnc none
-vnc none,id=default -vnc none
-vnc none -vnc none,id=default
-vnc none,id=0x
-vnc none,id=x,id=y
-set vnc.x.share=ignore -vnc none,id=x
-vnc none,id=x -set vnc.x.share=bad
-vnc none,id=x -set vnc.x.foo=bad
-vnc none -set vnc.default.share=bad
-machine q35 -nodefaults -device VGA,id=g -vnc none,display=g,head=1
-machine q35 -nodefaults -device VGA,id=g -vnc none,display=g,head=0
-machine q35 -nodefaults -device VGA,id=g -device pcie-root-port,id=n -vnc none,display=n
-machine q35 -nodefaults -device virtio-vga,id=g,max_outputs=2 -vnc unix:a,display=g,head=1
-machine q35 -nodefaults -device virtio-vga,id=g,max_outputs=2 -vnc unix:a,display=g,head=2
-machine q35 -nodefaults -device VGA -vnc none,display=
-machine q35 -nodefaults -vnc none,display=VGA
-daemonize -vnc unix:$DIR/a
-daemonize -vnc 127.0.0.1:x
-preconfig -vnc unix:a
""".strip().splitlines()


@pytest.mark.in_turn("version")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("line", LINES)
def test_same_as_the_real_one(version: str, line: str, tmp_path: Path) -> None:
    real = need_real_qemu(version)
    whole = line if line.startswith("-machine") else f"-machine none -nodefaults {line}"
    # No two tests that run at the same time want the same port.
    number = VERSIONS.index(version)
    whole = whole.replace("127.0.0.1", f"127.0.{number + 1}.{LINES.index(line) + 1}").replace(
        ":2417", f":{2417 - number}"
    )
    runs = []
    with fake_qemu(version) as fake:
        for who, command in (("real", real), ("fake", fake)):
            folder = tmp_path / who / "d"
            folder.mkdir(parents=True)
            runs.append(Run(command, {"line": whole}, folder))
    said = [(run.status, run.stderr, run.left, run.stdout if run.status else "") for run in runs]
    assert said[1] == said[0]
