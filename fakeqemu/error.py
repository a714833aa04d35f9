# SPDX-License-Identifier: MIT
"""Whose fault it is: the client's, the other side's, or ours.

- `QemuError`: the client asked for something that QEMU refuses; becomes the QMP error reply, or the text on stderr.
- `StreamError`: the other side of a migration sent something that cannot be loaded.
- `OSError` and its kin belong to channels and files and are caught where those are used.
- anything else is a bug of ours: `Machine.report_bug` logs and counts it.

QEMU: include/qapi/error.h
"""

from __future__ import annotations

import errno as _errno

TYPE_CHECKING = False

GENERIC_ERROR = "GenericError"
COMMAND_NOT_FOUND = "CommandNotFound"
DEVICE_NOT_ACTIVE = "DeviceNotActive"
DEVICE_NOT_FOUND = "DeviceNotFound"
KVM_MISSING_CAP = "KVMMissingCap"


class QemuError(Exception):
    """A refusal in QEMU's own words.

    `desc` is the text, `cls` the QMP error class, `hint` a further line that QEMU prints after the error on the
    command line and in the human monitor, never over QMP.
    """

    def __init__(self, desc: str, cls: str = GENERIC_ERROR, hint: str = "") -> None:
        super().__init__(desc)
        self.desc = desc
        self.cls = cls
        self.hint = hint

    def prefixed(self, prefix: str) -> QemuError:
        """The same error with `prefix` put in front of its text, as QEMU's error_prepend does."""
        return QemuError(prefix + self.desc, self.cls, self.hint)


class StreamError(Exception):
    """An incoming migration stream is broken; `desc` says what was read and expected, `errno` what QEMU's code returns."""

    def __init__(self, desc: str, errno: int = _errno.EINVAL) -> None:
        super().__init__(desc)
        self.desc = desc
        self.errno = errno


class NotEmulated(QemuError):
    """A valid request for something that has no emulation here: said plainly, never answered with an invented success."""
