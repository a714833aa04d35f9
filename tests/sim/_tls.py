# SPDX-License-Identifier: MIT
"""Keys for machines of the simulation: their objects read them from the real disk."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.testing.sim_machine import SimMachine
    from tests.unit.crypto.pki import Pki

#: simulated time is another
FROM_DAYS = -2000


@cache
def keys() -> Pki:
    """One authority, one server, one client, made once."""
    from tests.unit.crypto.pki import make_pki

    folder = tempfile.mkdtemp(prefix="fakeqemu-keys")
    atexit.register(shutil.rmtree, folder)
    return make_pki(Path(folder), from_days=FROM_DAYS)


def use_certificates(source: SimMachine, destination: SimMachine, hostname: str = "localhost") -> None:
    """Have both sides encrypt what they send to each other."""
    pki = keys()
    for side, endpoint, folder in ((source, "client", pki.client_dir), (destination, "server", pki.server_dir)):
        creds = {"qom-type": "tls-creds-x509", "id": "tls0", "endpoint": endpoint, "dir": str(folder)}
        side.execute("object-add", **creds)
        side.execute("migrate-set-parameters", tls_creds="tls0")
    source.execute("migrate-set-parameters", tls_hostname=hostname)
