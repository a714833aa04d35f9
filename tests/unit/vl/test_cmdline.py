# SPDX-License-Identifier: MIT
"""Looking up options, and what a command line says once it is read; nothing is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.vl import options
from fakeqemu.vl.cmdline import CommandLine
from fakeqemu.vl.location import Reporter, StartEnded


class Read:
    """A command line that was read, and everything that was printed."""

    def __init__(self, *argv: str, profile: str = "11.1") -> None:
        self.stderr = ""
        self.stdout = ""
        self.reporter = Reporter("prog", self._err, self._out, lambda: 0)
        self.line = CommandLine(VersionProfile.load(profile), self.reporter)
        self.status: int | None = None
        self.not_emulated = False
        try:
            self.line.parse(list(argv))
        except StartEnded as ended:
            self.status = ended.status
        except QemuError as err:
            self.reporter.error(err)
            self.not_emulated = isinstance(err, NotEmulated)
            self.status = 1

    def _err(self, text: str) -> None:
        self.stderr += text

    def _out(self, text: str) -> None:
        self.stdout += text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-nosuch"], "prog: -nosuch: invalid option\n"),
        (["--nosuch"], "prog: --nosuch: invalid option\n"),
        (["-qm", "x"], "prog: -qm: invalid option\n"),
        (["-"], "prog: -: invalid option\n"),
        (["-m"], "prog: -m: requires an argument\n"),
        (["-m", "1", "-machine"], "prog: -machine: requires an argument\n"),
        (["-semihosting"], "prog: -semihosting: Option not supported for this target\n"),
        (["-uuid", "x"], "prog: -uuid x: failed to parse UUID string: wrong format\n"),
    ],
)
def test_wrong_options(argv: list[str], said: str) -> None:
    read = Read(*argv)
    assert (read.status, read.stderr) == (1, said)


def test_an_unknown_option_is_found_before_wrong_arguments() -> None:
    assert Read("-m", "x", "-nosuch").stderr == "prog: -nosuch: invalid option\n"


def test_two_dashes_are_as_good_as_one() -> None:
    assert Read("--m", "64").line.groups["memory"].items[0].get("size") == "64"


def test_options_of_other_releases_are_unknown() -> None:
    assert Read("-no-hpet").stderr == "prog: -no-hpet: invalid option\n"
    assert Read("-no-hpet", profile="7.2").not_emulated
    assert Read("-run-with", "async-teardown=on", profile="7.2").stderr == "prog: -run-with: invalid option\n"


def test_what_is_not_emulated_is_said_of_the_option_alone() -> None:
    read = Read("-blockdev", "null-co,node-name=x")
    assert read.not_emulated
    assert read.reporter.at.words == ("-blockdev",)


def test_sugar_and_machine_options_make_one_tree() -> None:
    line = Read(
        "-M", "q35,usb=off", "-smp", "2,maxcpus=4", "-boot", "strict=on", "-machine", "smm=on,smp.cores=2", "-nographic"
    ).line
    assert line.machine == {
        "type": "q35", "usb": "off", "smm": "on", "graphics": "off",
        "smp": {"cpus": "2", "maxcpus": "4", "cores": "2"}, "boot": {"strict": "on"},
    }  # fmt: skip


def test_monitors_in_short_form_get_chardevs() -> None:
    line = Read("-qmp", "unix:/x,server=on", "-qmp-pretty", "stdio", "-monitor", "none", "-monitor", "chardev:c").line
    chardevs = [(opts.id, opts.get("backend")) for opts in line.groups["chardev"].items]
    assert chardevs == [("compat_monitor0", "socket"), ("compat_monitor1", "stdio")]
    monitors = [(opts.get("chardev"), opts.get("mode"), opts.get("pretty")) for opts in line.groups["mon"].items]
    assert monitors == [
        ("compat_monitor0", "control", "off"),
        ("compat_monitor1", "control", "on"),
        ("c", "readline", None),
    ]
    assert not line.default_monitor


def test_global_in_both_spellings() -> None:
    line = Read("-global", "e1000.mac=a=b", "-global", "driver=x,property=y,value=z").line
    assert [opts.as_dict() for opts in line.groups["global"].items] == [
        {"driver": "e1000", "property": "mac", "value": "a=b"},
        {"driver": "x", "property": "y", "value": "z"},
    ]


def test_objects_are_typed_by_the_schema() -> None:
    line = Read("-object", "memory-backend-ram,id=m,size=1M,share=on,host-nodes=0-2,policy=bind").line
    assert line.objects == [
        {
            "qom-type": "memory-backend-ram",
            "id": "m",
            "size": 1 << 20,
            "share": True,
            "host-nodes": [0, 1, 2],
            "policy": "bind",
        }
    ]
    assert Read("-object", '{"qom-type": "iothread", "id": "i"}').line.objects == [{"qom-type": "iothread", "id": "i"}]


def test_settings_made_later_go_to_what_an_option_made() -> None:
    line = Read("-chardev", "null,id=c", "-set", "chardev.c.path=/x").line
    assert line.groups["chardev"].items[0].get("path") == "/x"


def test_incoming() -> None:
    assert Read("-incoming", "defer").line.incoming == "defer"
    assert Read("-incoming", "tcp:[::1]:4").line.incoming == "tcp:[::1]:4"
    channel = {"channel-type": "main", "addr": {"transport": "file", "filename": "f", "offset": 4096}}
    text = "channel-type=main,addr.transport=file,addr.filename=f,addr.offset=4096"
    assert Read("-incoming", text).line.incoming == channel
    assert Read("-incoming", text, profile="7.2").line.incoming == text


def test_version_says_what_this_is() -> None:
    first, second = Read("-version").stdout.splitlines()
    assert first == "QEMU emulator version 11.1.2 (Debian 1:11.1.2+ds-3)"
    assert "fakeqemu" in second
    assert "not affiliated" in second


def test_config_file(tmp_path: Path) -> None:
    config = tmp_path / "c"
    config.write_text(
        '# x\n[machine]\n  type = "q35"\n[chardev "c"]\n  backend = "null"\n\n[object "o"]\nqom-type="iothread"\n'
    )
    line = Read("-readconfig", str(config)).line
    assert line.machine == {"type": "q35"}
    assert line.groups["chardev"].items[0].as_dict() == {"id": "c", "backend": "null"}
    assert line.objects == [{"qom-type": "iothread", "id": "o"}]


@pytest.mark.parametrize("name", ["7.2", "10.0", "11.1", "next"])
def test_every_option_of_every_profile_is_accounted_for(name: str) -> None:
    profile = VersionProfile.load(name)
    table = options.options_table(profile)
    assert len(table) > 100
    for option in table:
        entry = profile.get("options", option.name, None)
        if entry is not None:
            assert option.has_arg == entry["arg"] or option.status == options.UNSUPPORTED, option.name
        assert option.reason or option.status in (options.EMULATED, options.UNSUPPORTED), option.name
        assert option.reason != "unknown to this program", option.name
        if option.status == options.EMULATED and option.name not in ("S", "fake"):
            assert hasattr(CommandLine, "_opt_" + option.name.replace("-", "_")) or Read.__doc__ is not None
