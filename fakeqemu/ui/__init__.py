# SPDX-License-Identifier: MIT
"""What people look at: the VNC server. There is no window, no SPICE and no D-Bus display.

    -vnc ADDRESS,...  ── vnc_opts ── VncDisplay ── listens ── a VncState for each client, a task that reads its messages
                                         │                        │
                                     a QemuConsole            vnc_auth: who may come
                                     (a picture)              vnc_update: what of the picture it has not seen

The picture is black, 640x480: no guest code runs, so nothing is ever drawn, and the words that QEMU writes on a screen
whose guest has not begun are left out. Keys, pointer and clipboard are read, checked, and end here.

Read `vnc` (displays and who may share one), `vnc_client` (a connection from its first byte to its last), `rfb` (the
protocol's numbers), then the rest. Nothing of this is loaded where no option asks for VNC.

QEMU: ui/vnc.c and its neighbours, ui/console.c, ui/ui-qmp-cmds.c, ui/ui-hmp-cmds.c
"""
