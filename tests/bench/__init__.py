# SPDX-License-Identifier: MIT
"""Measurements against a real QEMU in one run; they print ratios. `python -m tests.bench.bench_start`, and so on."""
