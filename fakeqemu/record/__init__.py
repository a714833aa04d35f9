# SPDX-License-Identifier: MIT
"""Recording real QEMUs, and what others recorded.

`capture` makes a profile (a folder of `schemas/`) from an emulator; `profile_cli` is `fakeqemu profile`.

    capture.py           the steps, in order, and the manifest
    capture_vm.py        an emulator process that may die, and the connection to it
    capture_tables.py    writing tables, their index and digests
    capture_schema.py    query-qmp-schema and what it hides
    capture_qom.py       types, properties, trees
    capture_queries.py   what machines answer
"""
