# SPDX-License-Identifier: MIT
"""Scenarios: what a guest does and what goes wrong, from a file (`-fake scenario=FILE`: TOML, JSON, or YAML with PyYAML).

A file is for one machine: give the source one, the destination another. Each part may be left out.

    name = "the link breaks in the middle"

    [guest]
    dirty-rate = "20M"               # bytes it writes in a second while it runs
    working-set = "64M"              # how much of its memory it goes round in

    [[guest.phases]]                 # from then on, counted from the machine's start
    at-ms = 5000
    dirty-rate = 0

    [[rules]]                        # something goes wrong at a fault point: `fakeqemu faults` lists them
    where = "vmstate_load"
    match = { id = "timer" }         # only when the point's fields are so: a pattern, or a comparison such as ">=100"
    after = 0                        # pass so many by first
    times = 1                        # or "always"
    probability = 1.0                # by the seed
    fail = "EIO"                     # or delay-ms = 100, stall = true, corrupt = OFFSET, close = true, kill = true

    [[links]]                        # migration channels misbehave
    channel = "migration-socket-*"   # main one; migration-multifd-send-0, -recv-0, ...; migration-file-*, -exec-*, -fd-*
    direction = "write"
    reset-at = 100000                # or latency-ms, bandwidth, slice, stall-at, close-at, corrupt-at

    [[answers]]                      # a QMP command is answered otherwise
    command = "query-migrate"
    delay-ms = 3000                  # or stall = true, error = "text", return = VALUE

    [[steps]]                        # something happens
    event = "MIGRATION"              # when? or command = "cont", on = "a_trace_event", at-ms = 5000
    match = { status = "device" }
    delay-ms = 100                   # so long after that
    guest = "panic"                  # what? or dirty-rate = 0, release = "name of a stall", close = true, kill = true

A name in place of a file is one of ours (`library`; `fakeqemu scenarios` lists them). What is wrong in a file is told with
its line and field. Reading order: `model` (what may stand there), `load` and `positions` (reading it), `runner` (doing
it), `guest_acts`, `schema_export` (the JSON Schema, for editors).
"""
