# SPDX-License-Identifier: MIT
"""The process itself, ours and the real one side by side: signals, daemons, pid files, modes of sockets, leftovers.

Each test has two emulators in front of it, tells both the same, and compares what they said and left behind.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench._real import fake_qemu, real_qemu
from tests.conformance._wait import PATIENCE_S, connect

BASE = ("-accel", "tcg", "-display", "none", "-nodefaults", "-machine", "none")


@pytest.fixture(scope="module")
def commands() -> Iterator[dict[str, list[str]]]:
    """The two emulators' commands."""
    real = real_qemu()
    if real is None:
        pytest.skip("no real QEMU 11.1 here: tests/oracle/install-qemu forky unpacks one")
    with fake_qemu() as fake:
        yield {"fake": fake, "real": real}


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nobody_left_behind() -> Iterator[None]:
    """A test that fails half way leaves no emulator running."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.communicate()


class Outcome:
    """What an emulator said and left behind, without what may differ."""

    def __init__(self, status: int | None, stdout: str, stderr: str, folder: Path) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = re.sub(r"pid \d+ \(.*?\)", "pid N (NAME)", stderr)
        self.left = left_in(folder)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.stderr)

    def __repr__(self) -> str:
        return repr(vars(self))


def left_in(folder: Path) -> dict[str, str]:
    """Names, kinds and modes of the files of a folder."""
    return {path.name: stat.filemode(path.lstat().st_mode) for path in sorted(folder.iterdir())}


class Emulator:
    """One of the two, in a folder of its own."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.command = command
        self.folder = folder
        folder.mkdir()

    def start(self, *arguments: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.command, *BASE, *arguments], cwd=self.folder, pass_fds=pass_fds,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        STARTED.append(process)
        return process

    def outcome(self, process: subprocess.Popen[str]) -> Outcome:
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
        return Outcome(process.returncode, stdout, stderr, self.folder)

    def run(self, *arguments: str) -> Outcome:
        """Run to the end, which has to come by itself."""
        return self.outcome(self.start(*arguments))

    def connect(self, name: str = "qmp") -> socket.socket:
        """A connection to a monitor, once it listens; negotiated.

        A real QEMU greets from a thread of its own while it still starts; once it has answered a command it has started.
        """
        connection = connect(self.folder / name, STARTED[-1])
        assert b'"QMP"' in connection.recv(65536)
        connection.sendall(b'{"execute": "qmp_capabilities"}')
        assert connection.recv(4096) == b'{"return": {}}\r\n'
        return connection


def wait_gone(pid: int) -> None:
    """Wait for the end of a process that is no child of ours."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([fd], [], [], PATIENCE_S)[0], "still there"
    os.close(fd)


Story = Callable[[Emulator], Any]


@pytest.fixture
def both(commands: dict[str, list[str]], tmp_path: Path) -> Callable[[Story], Any]:
    """Tell a story to both emulators; what it returns has to be the same, and is returned."""

    def tell(story: Story) -> Any:
        told = {name: story(Emulator(command, tmp_path / name)) for name, command in commands.items()}
        assert told["fake"] == told["real"]
        return told["fake"]

    return tell


QMP = ("-qmp", "unix:qmp,server=on,wait=off")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_an_event_and_a_clean_end(both: Callable[[Story], Any], number: signal.Signals) -> None:
    def story(emulator: Emulator) -> object:
        process = emulator.start(*QMP, "-pidfile", "pid")
        connection = emulator.connect()
        process.send_signal(number)
        said = b""
        while data := connection.recv(4096):
            said += data
        event = re.sub(rb'"timestamp": {.*?}, ', b"", said)
        return event, emulator.outcome(process)

    event, outcome = both(story)
    assert event == b'{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}}\r\n'
    assert outcome.status == 0
    assert outcome.left == {}
    assert outcome.stderr == f"qemu-system-x86_64: terminating on signal {number:d} from pid N (NAME)\n"


def test_a_signal_ends_it_in_milliseconds(commands: dict[str, list[str]], tmp_path: Path) -> None:
    emulator = Emulator(commands["fake"], tmp_path / "fake")
    process = emulator.start(*QMP)
    emulator.connect()
    start = time.monotonic()
    process.terminate()
    process.wait(PATIENCE_S)
    assert time.monotonic() - start < 0.25


def test_quit_answers_and_ends(both: Callable[[Story], Any]) -> None:
    def story(emulator: Emulator) -> object:
        process = emulator.start(*QMP)
        connection = emulator.connect()
        connection.sendall(b'{"execute": "quit"}')
        said = b""
        while data := connection.recv(4096):
            said += data
        return re.sub(rb'"timestamp": {.*?}, ', b"", said), emulator.outcome(process)

    both(story)


def test_a_daemon_writes_its_pid_and_lets_go_of_everything(both: Callable[[Story], Any]) -> None:
    def story(emulator: Emulator) -> object:
        started = emulator.run(
            "-daemonize", "-pidfile", "pid", "-qmp", f"unix:{emulator.folder}/qmp,server=on,wait=off"
        )
        pid = int((emulator.folder / "pid").read_text())
        proc = Path(f"/proc/{pid}")
        streams = [os.readlink(proc / "fd" / str(fd)) for fd in range(3)]
        umask = [line for line in (proc / "status").read_text().splitlines() if line.startswith("Umask")]
        told = (streams, os.readlink(proc / "cwd"), umask, os.getsid(pid) != os.getsid(0))
        emulator.connect().close()
        os.kill(pid, signal.SIGTERM)
        wait_gone(pid)
        return started, told, left_in(emulator.folder)

    started, told, left = both(story)
    assert started.status == 0
    assert told[0] == ["/dev/null"] * 3
    assert left == {}


def test_a_daemon_does_not_find_a_relative_socket_again(both: Callable[[Story], Any]) -> None:
    def story(emulator: Emulator) -> object:
        emulator.run("-daemonize", "-pidfile", "pid", *QMP)
        pid = int((emulator.folder / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_gone(pid)
        return left_in(emulator.folder)

    both(story)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-chardev", "socket,id=a,path=/nosuch/x,server=on,wait=off"),
        ("-pidfile", "/nosuch/pid"),
        ("-monitor", "stdio"),
        ("-qmp", "unix:first,server=on,wait=off", "-qmp", "unix:/nosuch/second,server=on,wait=off"),
    ],
    ids=lambda words: words[-1],
)
def test_a_daemon_that_cannot_start_says_why(both: Callable[[Story], Any], arguments: tuple[str, ...]) -> None:
    outcome = both(lambda emulator: emulator.run("-daemonize", *arguments))
    assert isinstance(outcome, Outcome)
    assert outcome.status == 1


def test_a_pid_file_is_locked_while_its_owner_lives(both: Callable[[Story], Any]) -> None:
    def story(emulator: Emulator) -> object:
        first = emulator.start("-pidfile", "pid", *QMP)
        emulator.connect()
        assert int((emulator.folder / "pid").read_text()) == first.pid
        second = emulator.run("-pidfile", "pid")
        first.kill()
        first.communicate()
        third = emulator.start("-pidfile", "pid", "-qmp", "unix:third,server=on,wait=off")
        emulator.connect("third")
        stale_replaced = int((emulator.folder / "pid").read_text()) == third.pid
        third.terminate()
        return second, stale_replaced, emulator.outcome(third)

    both(story)


BAD = {
    "dir": ("-pidfile", "."),
    "no user": ("-run-with", "user=nosuchuser"),
    "no ids": ("-run-with", "user=1:2:3"),
    "no root": ("-run-with", "chroot=/nosuch"),
    "no switch": ("-run-with", "async-teardown=maybe"),
    "no option": ("-run-with", "bogus=on"),
    "two stdio": ("-monitor", "stdio", "-qmp", "stdio"),
    "connect": ("-chardev", "socket,id=a,path=/nosuch/x"),
    "refused": ("-chardev", "socket,id=a,host=127.0.0.1,port=1"),
    "too long": ("-chardev", f"socket,id=a,path=/{'x' * 120},server=on,wait=off"),
    "no such host": ("-chardev", "socket,id=a,host=nosuch.invalid,port=1"),
    "not ours": ("-chardev", "socket,id=a,host=192.0.2.1,port=5,server=on,wait=off"),
    "fd text": ("-chardev", "socket,id=a,fd=abc,server=on,wait=off"),
    "fd closed": ("-chardev", "socket,id=a,fd=77,server=on,wait=off"),
    "fd stdin": ("-chardev", "socket,id=a,fd=0,server=on,wait=off"),
    "no address": ("-chardev", "socket,id=a"),
    "two addresses": ("-chardev", "socket,id=a,path=x,host=y,port=1"),
    "no port": ("-chardev", "socket,id=a,host=y"),
    "client waits": ("-chardev", "socket,id=a,path=x,wait=on"),
    "no id": ("-chardev", "socket,path=x"),
    "no back end": ("-chardev", "nosuch,id=a"),
    "no file name": ("-chardev", "file,id=a"),
    "no folder": ("-chardev", "file,id=a,path=/nosuch/x"),
    "no log": ("-chardev", "null,id=a,logfile=/nosuch/x"),
    "ring": ("-chardev", "ringbuf,id=a,size=3"),
    "twice": ("-chardev", "null,id=a", "-chardev", "null,id=a"),
    "in use": ("-chardev", "null,id=a", "-mon", "chardev=a", "-mon", "chardev=a"),
    "not there": ("-mon", "chardev=nosuch"),
    "short form": ("-qmp", "foo:bar"),
    "short tcp": ("-qmp", "tcp:nohost"),
    "both off": ("-chardev", "socket,id=a,host=127.0.0.1,port=0,server=on,wait=off,ipv4=off,ipv6=off"),
    "server twice": ("-chardev", "socket,id=a,path=x,server=on,server=maybe,wait=off"),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD.keys())
def test_a_start_that_fails_says_and_leaves_the_same(both: Callable[[Story], Any], arguments: tuple[str, ...]) -> None:
    outcome = both(lambda emulator: emulator.run(*arguments))
    assert isinstance(outcome, Outcome)
    assert outcome.status == 1


def test_a_start_that_waits_for_a_client_says_so_and_goes_on_with_it(both: Callable[[Story], Any]) -> None:
    def story(emulator: Emulator) -> object:
        process = emulator.start("-qmp", "unix:qmp,server=on")
        line = process.stderr.readline() if process.stderr else ""
        connection = emulator.connect()
        connection.close()
        process.terminate()
        return line, emulator.outcome(process)

    line, _outcome = both(story)
    assert line.endswith("info: QEMU waiting for connection on: disconnected:unix:qmp,server=on\n")


def test_the_second_client_waits_for_its_turn(both: Callable[[Story], Any]) -> None:
    def story(emulator: Emulator) -> object:
        process = emulator.start(*QMP)
        first = emulator.connect()
        second = socket.socket(socket.AF_UNIX)
        second.connect(str(emulator.folder / "qmp"))
        assert not select.select([second], [], [], 0.2)[0], "greeted too early"
        first.close()
        second.settimeout(PATIENCE_S)
        greeting = second.recv(4096)
        process.terminate()
        return greeting, emulator.outcome(process)

    both(story)


def test_sockets_files_and_terminals_are_made_alike(both: Callable[[Story], Any]) -> None:
    chardevs = (
        "socket,id=s,path=sock,server=on,wait=off",
        "file,id=f,path=file",
        "pty,id=p",
        "null,id=n,logfile=log",
        "ringbuf,id=r",
        "socket,id=t,host=127.0.0.1,port=0,server=on,wait=off",
        "socket,id=u,path=name,abstract=on,server=on,wait=off",
        "null,id=m,mux=on",
    )

    def story(emulator: Emulator) -> object:
        process = emulator.start(*QMP, *[word for chardev in chardevs for word in ("-chardev", chardev)])
        connection = emulator.connect()
        made = left_in(emulator.folder)
        connection.sendall(b'{"execute": "query-chardev"}{"execute": "query-yank"}')
        said = b""
        while said.count(b"\r\n") < 2:
            said += connection.recv(65536)
        process.terminate()
        outcome = emulator.outcome(process)
        outcome.stdout = re.sub(r"pts/\d+", "pts/N", outcome.stdout)
        outcome.stderr = re.sub(r"pts/\d+", "pts/N", outcome.stderr)
        return made, re.sub(rb"127.0.0.1:\d+|pts/\d+", b"N", said), outcome

    both(story)


def test_unknown_descriptors_stay_open(both: Callable[[Story], Any]) -> None:
    def story(emulator: Emulator) -> object:
        reader, writer = os.pipe()
        process = emulator.start(*QMP, pass_fds=(writer,))
        os.close(writer)
        emulator.connect()
        still_open = not select.select([reader], [], [], 0)[0]
        process.terminate()
        process.wait(PATIENCE_S)
        assert os.read(reader, 1) == b""
        os.close(reader)
        return still_open

    assert both(story) is True


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_privileges_are_dropped(both: Callable[[Story], Any], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    def story(emulator: Emulator) -> object:
        process = emulator.start(*QMP, "-run-with", "user=nobody")
        connection = emulator.connect()
        connection.sendall(b'{"execute": "query-status"}')
        said = connection.recv(4096)
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        who = [line.split() for line in status if line.startswith(("Uid", "Gid", "Groups"))]
        process.terminate()
        return who, said, emulator.outcome(process)

    both(story)


def test_comm_is_what_tools_look_for(commands: dict[str, list[str]], tmp_path: Path) -> None:
    emulator = Emulator(commands["fake"], tmp_path / "fake")
    for words, comm in (((), "qemu-system-x86"), (("-name", "vm,process=a-rather-long-name"), "a-rather-long-n")):
        process = emulator.start(*QMP, *words)
        emulator.connect()
        assert Path(f"/proc/{process.pid}/comm").read_text() == f"{comm}\n"
        assert (
            Path(f"/proc/{process.pid}/cmdline").read_bytes().endswith("\0".join(BASE + QMP + words).encode() + b"\0")
        )
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.mark.parametrize("name", ["vm", "vm,debug-threads=on"])
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_each_vcpu_and_iothread_has_a_thread_with_the_name_of_the_release(
    tmp_path: Path, name: str, profile: str
) -> None:
    real = real_qemu(profile)
    if real is None:
        pytest.skip(f"no real QEMU {profile} here")
    words = ("-machine", "q35", "-S", "-smp", "2", "-object", "iothread,id=io1", "-name", name)

    def names(emulator: Emulator) -> list[str]:
        process = emulator.start(*QMP, *words)
        connection = emulator.connect()
        connection.sendall(b'{"execute": "query-cpus-fast"}{"execute": "query-iothreads"}')
        said = b""
        while said.count(b"\r\n") < 2:
            said += connection.recv(65536)
        ids = [int(found) for found in re.findall(rb"\"thread-id\": ([1-9]\d*)", said)]
        assert len({*ids, process.pid}) == 4
        main = Path(f"/proc/{process.pid}/comm").read_text()
        comms = [Path(f"/proc/{process.pid}/task/{tid}/comm").read_text() for tid in ids]
        process.kill()
        process.communicate()
        return ["main" if comm == main else comm for comm in comms]

    with fake_qemu(profile) as fake:
        assert names(Emulator(fake, tmp_path / "fake")) == names(Emulator(real, tmp_path / "real"))


def test_a_signal_ends_a_start_that_waits_for_a_client(commands: dict[str, list[str]], tmp_path: Path) -> None:
    """A real QEMU would wait on: one of the deliberate differences."""
    emulator = Emulator(commands["fake"], tmp_path / "fake")
    process = emulator.start("-qmp", "unix:qmp,server=on")
    assert process.stderr is not None
    assert "waiting for connection" in process.stderr.readline()
    process.terminate()
    outcome = emulator.outcome(process)
    assert outcome.status == 0
    assert outcome.left == {}


@pytest.mark.parametrize("which", ["fake", "real"])
def test_a_client_that_waits_is_greeted_even_if_the_start_fails_later(
    which: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    """A monitor greets while the machine is being made; what is asked before it is ready is answered then, or never."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "qmp"))
        listener.listen()
        os.set_inheritable(listener.fileno(), True)
        client.settimeout(PATIENCE_S)
        client.connect(str(tmp_path / "qmp"))
        client.sendall(b'{"execute": "qmp_capabilities"}')
        chardev = f"socket,id=mon,fd={listener.fileno()},server=on,wait=off"
        board = ("-machine", "q35")  # which takes the real one longer to make than its thread takes to greet
        process = subprocess.Popen(
            [
                *commands[which],
                *BASE,
                *board,
                "-chardev",
                chardev,
                "-mon",
                "chardev=mon,mode=control",
                "-device",
                "nonesuch",
            ],
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
            text=True,
        )
        STARTED.append(process)
        listener.close()
        heard = b""
        try:
            while more := client.recv(65536):
                heard += more
        except ConnectionResetError:
            pass  # it ended with our request unread
        assert process.wait(PATIENCE_S) == 1
    assert heard.startswith(b'{"QMP"')
    assert heard.count(b"\r\n") == 1
