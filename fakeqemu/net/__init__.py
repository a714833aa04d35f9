# SPDX-License-Identifier: MIT
"""Networks, as far as a migration needs them: the guest's network cards are announced where it arrives (announce).

QEMU: net/
"""
