# SPDX-License-Identifier: MIT
"""A list of rules, of which the first that fits decides; a policy for the rest.

QEMU: authz/list.c
"""

from __future__ import annotations

from fakeqemu.authz.base import QAuthZ
from fakeqemu.qom.properties import wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

_ALLOW, _DENY = "allow", "deny"
_GLOB = "glob"


class QAuthZList(QAuthZ):
    """`rules` are dicts with match, policy and format (exact or glob)."""

    __slots__ = ("_rules",)

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._rules: list[dict[str, str]] = []
        self.define("policy", "QAuthZListPolicy", default=_DENY)
        self.define("rules", "QAuthZListRule", lambda: self._rules, self._set_rules)

    def _set_rules(self, value: Any) -> None:
        if not isinstance(value, list):
            raise wrong_type("rules", "array")
        self._rules = value

    def is_allowed(self, identity: str) -> bool:
        for rule in self._rules:
            fits = _glob(rule["match"], identity) if rule.get("format") == _GLOB else rule["match"] == identity
            if fits:
                return rule["policy"] == _ALLOW
        return bool(self.get("policy") == _ALLOW)


def _glob(pattern: str, text: str) -> bool:
    """Whether `pattern` fits the whole text: * stands for any characters, ? for one."""
    from fnmatch import fnmatchcase

    # the library knows sets of characters too, GLib does not
    return fnmatchcase(text, pattern.replace("[", "[[]"))
