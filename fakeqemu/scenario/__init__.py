# SPDX-License-Identifier: MIT
"""Scenarios: what a guest does and what goes wrong, from a file (`-fake scenario=FILE`: TOML, JSON, or YAML with PyYAML).

    name = "the link breaks in the middle"

    [guest]
    dirty-rate = "20M"               # bytes it writes in a second while it runs
    working-set = "64M"

    [[guest.phases]]                 # from then on, counted from the machine's start
    at-ms = 5000
    dirty-rate = 0

    [[rules]]                        # points: `fakeqemu faults`
    where = "vmstate_load"
    match = { id = "timer" }
    after = 0                        # pass so many by first
    times = 1                        # or "always"
    probability = 1.0
    fail = "EIO"                     # or delay-ms = 100, stall = true, kill = true

    [[links]]
    channel = "migration-socket-*"
    direction = "write"
    reset-at = 100000

What is wrong in a file is told with its line and the field. Reading order: `model` (what may stand there), `load` and
`positions` (reading it), `runner` (doing it), `schema_export` (the JSON Schema, for editors).
"""
