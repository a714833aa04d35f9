# SPDX-License-Identifier: MIT
"""What `-compat` wants done with deprecated and unstable parts of the interface.

Input may be rejected, output hidden. QEMU can also be told to crash on such input; that is taken as a rejection.

QEMU: qapi/compat.json, qapi/qapi-util.c
"""

from __future__ import annotations

from fakeqemu.error import COMMAND_NOT_FOUND, GENERIC_ERROR, QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.schema import QapiSchema

_WORDS = (("deprecated", "Deprecated"), ("unstable", "Unstable"))


class CompatPolicy:
    """The policy of one machine; everything is accepted until something is set."""

    __slots__ = ("hidden", "rejected")

    def __init__(self) -> None:
        #: features whose input is refused, whose output is left out
        self.rejected: list[str] = []
        self.hidden: list[str] = []

    def set(self, options: dict[str, Any]) -> None:
        """Take the options of `-compat` (deprecated-input, deprecated-output, unstable-input, unstable-output)."""
        for feature, _ in _WORDS:
            if f"{feature}-input" in options:
                self._switch(self.rejected, feature, options[f"{feature}-input"] != "accept")
            if f"{feature}-output" in options:
                self._switch(self.hidden, feature, options[f"{feature}-output"] == "hide")

    @staticmethod
    def _switch(features: list[str], feature: str, on: bool) -> None:
        if on and feature not in features:
            features.append(feature)
        elif not on and feature in features:
            features.remove(feature)

    def check_input(self, features: list[str], kind: str, name: str) -> None:
        """Raise QemuError if a command, parameter or value with these features is not to be used."""
        for feature, word in _WORDS:
            if feature in features and feature in self.rejected:
                cls = COMMAND_NOT_FOUND if kind == "command" else GENERIC_ERROR
                raise QemuError(f"{word} {kind} {name} disabled by policy", cls)

    def hides(self, features: list[str]) -> bool:
        """Whether output with these features is left out."""
        return any(feature in self.hidden for feature in features)

    def strip(self, type_: Any, value: Any) -> Any:
        """`value` of a type without the members that are hidden."""
        if type_.kind == "array" and isinstance(value, list):
            return [self.strip(type_.element, item) for item in value]
        if type_.kind == "alternate":
            for choice in type_.choices.values():
                if choice.kind == "object" and isinstance(value, dict):
                    return self.strip(choice, value)
        if type_.kind != "object" or not isinstance(value, dict):
            return value
        members = dict(type_.member_names)
        at = type_
        while at is not None and at.tag is not None:
            at = at.variant(value.get(at.tag, ""))
            if at is not None:
                members.update(at.member_names)
        result = {}
        for name, item in value.items():
            member = members.get(name)
            if member is None:
                result[name] = item
            elif not self.hides(member.features):
                result[name] = self.strip(member.type, item)
        return result

    def strip_schema(self, schema: QapiSchema) -> list[dict[str, Any]]:
        """The reply to query-qmp-schema without what is deprecated, as QEMU gives it under deprecated-output=hide.

        Commands, events and members of objects go; values of enumerations stay, and so does what is unstable: QEMU's
        introspection does not look at those. (`values` of an enum goes too, being a deprecated member of the reply.)
        """
        result = []
        for name in schema.profile.keys("schema"):
            entity = schema.profile.get("schema", name)
            kind = entity["meta-type"]
            if kind in ("command", "event") and "deprecated" in entity.get("features", ()):
                continue
            if kind == "object":
                members = [member for member in entity["members"] if "deprecated" not in member.get("features", ())]
                entity = {**entity, "members": members}
            result.append(entity)
        return result
