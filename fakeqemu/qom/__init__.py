# SPDX-License-Identifier: MIT
"""QOM: the objects of a machine, their properties, and the tree in which they hang.

QEMU: qom/. Reading order: `properties` (what a property takes), `object` (objects and the tree), `registry` (which class
of ours is which type; recorded trees), `qmp_cmds`.
"""
