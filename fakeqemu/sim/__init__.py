# SPDX-License-Identifier: MIT
"""The simulated host: machines, a network and files within one process, on a clock that only moves when all wait.

A `SimWorld` is time and what is ready to run; it owns one network and one file system. Each machine lives on a `SimHost` of
the world, with its own descriptors, process id and randomness. Nothing reads the real clock, so a run repeats exactly from
its seed, and ninety virtual seconds pass in a millisecond.

Reading order: `world`, `network`, `channel`, `files`, `host`. Whole machines on it: `fakeqemu.testing.sim_machine`.
"""
