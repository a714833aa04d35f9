# SPDX-License-Identifier: MIT
"""The real Host: one edge between a machine and the operating system.

Everything here is non-blocking descriptors, readiness call-backs and one heap of timers, behind a small `Poller`; no
transports, because those lose the descriptors of a message.

Reading order: `poller` (bare epoll, or somebody's asyncio loop), `stream` (what all channels over descriptors share),
`socket` (sockets and listeners), `file` (pipes, files, programs), `host` (puts them together), `process` (name, signals,
daemonize, exit).
"""
