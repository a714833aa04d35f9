# SPDX-License-Identifier: MIT
"""`-chardev` parameters, and the short forms of `-serial`, `-monitor` and `-qmp`, as QAPI's ChardevBackend.

QEMU: chardev/char.c (qemu_chr_parse_compat, qemu_chr_new_from_opts) and the `parse` functions of the back ends
"""

from __future__ import annotations

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from fakeqemu.chardev.char import Chardev
    from fakeqemu.system.machine import Machine

    class Options(Protocol):
        """One set of parameters, as QemuOpts gives them."""

        id: str | None

        def get(self, name: str, default: str | None = None) -> str | None: ...
        def get_bool(self, name: str, default: bool = False) -> bool: ...
        def get_number(self, name: str, default: int) -> int: ...
        def get_size(self, name: str, default: int) -> int: ...
        def has(self, name: str) -> bool: ...
        def set(self, name: str, value: str) -> None: ...
        def do_parse(self, text: str, implied: str | None) -> None: ...


#: back ends whose short form is their name alone
_PLAIN = ("null", "pty", "msmouse", "wctablet", "braille", "testdev", "stdio")
_STREAMS = {"tcp:": "", "telnet:": "telnet", "tn3270:": "tn3270", "websocket:": "websocket"}


def new_from_opts(vm: Machine, opts: Options) -> Chardev:
    """Make the chardev that `-chardev` asked for; raises QemuError."""
    kind = opts.get("backend")
    if kind is None:
        raise QemuError('chardev: "backend" not specified' if not opts.id else f'chardev: "{opts.id}" missing backend')
    if not opts.id:
        raise QemuError("chardev: no id specified")
    backend = backend_from_opts(vm, kind, opts)
    mux = opts.get_bool("mux")
    base = f"{opts.id}-base" if mux else opts.id
    chardev = vm.chardevs.add(base, backend)
    terminal = chardev.opened_result().get("pty")
    if terminal is not None:
        vm.host.print(f"char device redirected to {terminal} (label {base})\n")
    return vm.chardevs.add(opts.id, {"type": "mux", "data": {"chardev": base}}) if mux else chardev


def backend_from_opts(vm: Machine, kind: str, opts: Options) -> dict[str, Any]:
    """QAPI's ChardevBackend for `-chardev KIND,...`; raises QemuError."""
    if not vm.profile.has("types", f"chardev-{kind}"):
        raise QemuError(f"'{kind}' is not a valid char driver name")
    data: dict[str, Any] = {}
    if opts.has("logfile"):
        data["logfile"] = opts.get("logfile")
        data["logappend"] = opts.get_bool("logappend")
    parse = _PARSERS.get(kind)
    if parse is not None:
        parse(opts, data)
    return {"type": kind, "data": data}


def _parse_socket(opts: Options, data: dict[str, Any]) -> None:
    path, host, port, fd = opts.get("path"), opts.get("host"), opts.get("port"), opts.get("fd")
    if (path is not None) + (host is not None) + (fd is not None) > 1:
        raise QemuError("None or one of 'path', 'fd' or 'host' option required.")
    if host is not None and port is None:
        raise QemuError("chardev: socket: no port given")
    if opts.has("delay") and opts.has("nodelay"):
        raise QemuError("'delay' and 'nodelay' are mutually exclusive")
    data["server"] = opts.get_bool("server")
    for name in ("telnet", "tn3270", "websocket"):
        if opts.get_bool(name):
            data[name] = True
    for name in ("tls-creds", "tls-authz"):
        if opts.has(name):
            data[name] = opts.get(name)
    for name in ("reconnect", "reconnect-ms"):
        if opts.has(name):
            data[name] = opts.get_number(name, 0)
    # Unlike over QMP, a server waits unless told otherwise.
    if opts.has("wait") or data["server"]:
        data["wait"] = opts.get_bool("wait", True)
    address: dict[str, Any]
    if path is not None:
        address = {"path": path}
        if opts.get_bool("abstract"):
            address["abstract"] = True
            address["tight"] = opts.get_bool("tight", True)
        data["addr"] = {"type": "unix", "data": address}
    elif host is not None:
        address = {"host": host, "port": port}
        if opts.has("to"):
            address["to"] = opts.get_number("to", 0)
        for name in ("ipv4", "ipv6"):
            if opts.has(name):
                address[name] = opts.get_bool(name)
        data["addr"] = {"type": "inet", "data": address}
    else:
        data["addr"] = {"type": "fd", "data": {"str": fd or ""}}


def _parse_file(opts: Options, data: dict[str, Any]) -> None:
    path = opts.get("path")
    if path is None:
        raise QemuError("chardev: file: no filename given")
    data["out"] = path
    if opts.has("input-path"):
        data["in"] = opts.get("input-path")
    data["append"] = opts.get_bool("append")


def _parse_pipe(opts: Options, data: dict[str, Any]) -> None:
    path = opts.get("path")
    if path is None:
        raise QemuError("chardev: pipe: no device path given")
    data["device"] = path


def _parse_pty(opts: Options, data: dict[str, Any]) -> None:
    if opts.has("path"):
        data["path"] = opts.get("path")


def _parse_ringbuf(opts: Options, data: dict[str, Any]) -> None:
    size = opts.get_size("size", 0)
    if size:
        data["size"] = size


def _parse_stdio(opts: Options, data: dict[str, Any]) -> None:
    data["signal"] = opts.get_bool("signal", True)


def _parse_mux(opts: Options, data: dict[str, Any]) -> None:
    chardev = opts.get("chardev")
    if chardev is None:
        raise QemuError("chardev: mux: no chardev given")
    data["chardev"] = chardev


_PARSERS = {
    "socket": _parse_socket,
    "file": _parse_file,
    "pipe": _parse_pipe,
    "pty": _parse_pty,
    "ringbuf": _parse_ringbuf,
    "memory": _parse_ringbuf,
    "stdio": _parse_stdio,
    "mux": _parse_mux,
}


def parse_compat(filename: str, opts: Options, *, allow_mon: bool = False) -> bool:
    """Put the parameters that a short form (`unix:/path,server=on`, `stdio`, `mon:stdio`) stands for into `opts`.

    Says whether there is such a form; when not, QEMU prints `'FILENAME' is not a valid char driver`, and then what it was
    wanted for. `allow_mon`: the prefix `mon:` is known here. Raises QemuError for parameters that the group refuses.
    """
    if allow_mon and filename.startswith("mon:"):
        filename = filename[len("mon:") :]
        opts.set("mux", "on")
        # Ctrl-C belongs to the guest, Ctrl-A x ends the emulator.
        if filename == "stdio":
            opts.set("signal", "off")
    if filename in _PLAIN:
        opts.set("backend", filename)
        return True
    if filename.startswith("vc"):
        # Whatever follows the name without a colon is ignored.
        opts.set("backend", "vc")
        return filename[2:3] != ":" or _parse_console_size(filename[3:], opts)
    for prefix, key in (("file:", "path"), ("pipe:", "path"), ("pty:", "path")):
        if filename.startswith(prefix):
            opts.set("backend", prefix[:-1])
            opts.set(key, filename[len(prefix) :])
            return True
    for prefix, switch in _STREAMS.items():
        if filename.startswith(prefix):
            return _parse_stream(filename[len(prefix) :], switch, opts)
    if filename.startswith("unix:"):
        opts.set("backend", "socket")
        opts.do_parse(filename[len("unix:") :], "path")
        return True
    if filename.startswith("udp:"):
        opts.set("backend", "udp")
        return True
    if filename.startswith(("/dev/parport", "/dev/ppi")):
        opts.set("backend", "parallel")
        opts.set("path", filename)
        return True
    if filename.startswith("/dev/"):
        opts.set("backend", "serial")
        opts.set("path", filename)
        return True
    return False


def _parse_console_size(text: str, opts: Options) -> bool:
    """WIDTHxHEIGHT in pixels, or COLSCxROWSC in letters."""
    width, times, height = text.partition("x")
    names = ("width", "height")
    if width.endswith("C"):
        names = ("cols", "rows")
        width, height = width[:-1], height.removesuffix("C")
    if not times or not width.isdigit() or not height.isdigit():
        return False
    for name, value in zip(names, (width, height), strict=True):
        opts.set(name, value)
    return True


def _parse_stream(text: str, switch: str, opts: Options) -> bool:
    """HOST:PORT[,parameters]"""
    address, comma, parameters = text.partition(",")
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":")
        if not rest.startswith(":"):
            return False
    else:
        host, colon, port = address.partition(":")
        if not colon:
            return False
    if not port or len(host) > 64 or len(port) > 32:
        return False
    opts.set("backend", "socket")
    opts.set("host", host)
    opts.set("port", port)
    if comma:
        opts.do_parse(parameters, None)
    if switch:
        opts.set(switch, "on")
    return True
