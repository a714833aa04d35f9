# SPDX-License-Identifier: MIT
"""Who may: objects that are asked whether a name is let in.

QEMU: authz/
"""
