# SPDX-License-Identifier: MIT
"""Character devices: what a monitor or a serial port of the machine talks to.

A `Chardev` has a back end (a socket, stdin and stdout, a file, nothing) and at most one front end (a monitor, a device).
`ChardevRegistry.add` makes one from QAPI's ChardevBackend, for `-chardev` and `chardev-add` alike.

Reading order: `char` (the two ends, the registry), `socket`, `backends`, `mux`, `qmp_cmds`.

QEMU: chardev/
"""
