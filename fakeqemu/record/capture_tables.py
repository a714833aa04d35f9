# SPDX-License-Identifier: MIT
"""Writing a profile folder: tables with their index, and the manifest with their digests.

The format is told in `qapi/profile.py`, which reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from typing import Any

from fakeqemu.qapi.profile import FORMAT

# A table whose plain JSON is larger becomes a .blob.
PLAIN_LIMIT = 400_000


def to_json(value: Any) -> bytes:
    """JSON as QEMU's writer spaces it, so that what it printed comes out the same."""
    return json.dumps(value).encode()


def write_table(folder: str, name: str, records: dict[str, Any], *, compress: bool | None = None) -> dict[str, Any]:
    """Write a table, replacing one of that name; returns its entry of the manifest.

    Values of type bytes are JSON already. Large tables are deflated record by record unless `compress` says
    otherwise.
    """
    values = {key: value if isinstance(value, bytes) else to_json(value) for key, value in records.items()}
    plain = sum(map(len, values.values()))
    if compress is None:
        compress = plain > PLAIN_LIMIT
    index, data, digest, offset = [], [], hashlib.sha256(), 0
    for key, value in values.items():
        if "\t" in key or "\n" in key or not key:
            raise ValueError(f"table {name} cannot have the key {key!r}")
        digest.update(key.encode() + b"\t" + value + b"\n")
        if compress:
            piece = zlib.compress(value, 9)
            start = offset
        else:
            piece = key.encode() + b"\t" + value + b"\n"
            start = offset + len(piece) - len(value) - 1
        index.append(f"{key}\t{start}\t{len(piece) if compress else len(value)}\n")
        data.append(piece)
        offset += len(piece)
    for ending in (".jsonl", ".blob"):
        if os.path.exists(os.path.join(folder, name + ending)):
            os.unlink(os.path.join(folder, name + ending))
    with open(os.path.join(folder, name + (".blob" if compress else ".jsonl")), "wb") as file:
        file.write(b"".join(data))
    with open(os.path.join(folder, name + ".idx"), "w", encoding="utf-8", newline="\n") as file:
        file.write("".join(index))
    # The digest is of the records in plain, so that it does not depend on the compressor.
    return {"records": len(values), "bytes": plain, "sha256": digest.hexdigest()}


class ProfileWriter:
    """A profile folder while it is being made; a table can be written again later."""

    def __init__(self, folder: str, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = {"format": FORMAT, **manifest}
        self.manifest.setdefault("tables", {})
        os.makedirs(folder, exist_ok=True)

    @staticmethod
    def reopen(folder: str) -> ProfileWriter:
        """To add tables to a folder that has a manifest."""
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            manifest: dict[str, Any] = json.load(file)
        return ProfileWriter(folder, manifest)

    def table(self, name: str, records: dict[str, Any], *, compress: bool | None = None) -> None:
        """Write one table and the manifest that lists it."""
        self.manifest["tables"][name] = write_table(self.folder, name, records, compress=compress)
        self.save()

    def save(self) -> None:
        self.manifest["tables"] = dict(sorted(self.manifest["tables"].items()))
        with open(os.path.join(self.folder, "manifest.json"), "w", encoding="utf-8", newline="\n") as file:
            json.dump(self.manifest, file, indent=1)
            file.write("\n")
