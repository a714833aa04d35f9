# SPDX-License-Identifier: MIT
"""JSON Schemas of the files that people write, for their editors: `python -m fakeqemu.scenario.schema_export`.

They are kept in `schemas/fakeqemu/`; a test compares them with the models.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from fakeqemu.hw.vfio.hostfile import HostFile
from fakeqemu.qapi.profile import schemas_folder
from fakeqemu.scenario.model import ScenarioModel

if TYPE_CHECKING:
    from pydantic import BaseModel

MODELS: dict[str, type[BaseModel]] = {"scenario": ScenarioModel, "host": HostFile}


def schema_text(name: str) -> str:
    """The schema of one kind of file."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **MODELS[name].model_json_schema(by_alias=True),
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def folder() -> str:
    return os.path.join(schemas_folder(), "fakeqemu")


def main() -> int:
    """Write all of them; returns the exit status."""
    os.makedirs(folder(), exist_ok=True)
    for name in MODELS:
        with open(os.path.join(folder(), f"{name}.schema.json"), "w", encoding="utf-8") as file:
            file.write(schema_text(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
