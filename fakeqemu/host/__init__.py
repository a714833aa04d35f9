# SPDX-License-Identifier: MIT
"""What a virtual machine is given: protocols and pure helpers.

Reading order: `sync` (coroutines), `clock`, `channel`, `faults`, `host`.
"""
