# SPDX-License-Identifier: MIT
"""`-run-with user=`: whom the process becomes once it is set up.

QEMU: os-posix.c
"""

from __future__ import annotations


def find_user(text: str) -> tuple[int, int] | None:
    """User and group id of a user's name or of `UID:GID`; None when there is no such user."""
    from pwd import getpwnam

    try:
        entry = getpwnam(text)
    except KeyError:
        pass
    else:
        return entry.pw_uid, entry.pw_gid
    uid, colon, gid = text.partition(":")
    if colon and uid.isdigit() and gid.isdigit():
        return int(uid), int(gid)
    return None
