# SPDX-License-Identifier: MIT
import sys

from fakeqemu.cli import main

sys.exit(main())
