# SPDX-License-Identifier: MIT
"""Device state by description: fields in order, then subsections.

    VMSTATE_TIMER = VMStateDescription("timer", 2, 1, (
        int64("cpu_ticks_offset"), unused(8), int64("cpu_clock_offset", since=2),
    ))
    described = save_state(f, VMSTATE_TIMER, state)          # plain: put_*
    await load_state(f, VMSTATE_TIMER, state, 2)

State is an object whose attributes (or a dict whose items) the fields name. A field is present when the version is at
least its `since`, or, where it has a predicate, when that says so. A subsection is sent when its `needed` says so: new
state stays optional that way. The kinds of fields are in `vmstate_fields`, lists and trees in `vmstate_lists`.

    sent for a field       a single value, or its elements one after the other (`count`, or as many as a member says)
    array of pointers      a null element is the byte "0"; with `make`, each element has "0" or "1" in front
    subsections            05, counted name, be32 version, fields; it belongs to the description whose name it begins with

Saving also returns the description that stands at the end of a stream (see `vmdesc`). How that tells the elements of an
array apart has changed twice, and `arrays` says which way is wanted (compat row `migration_vmdesc_arrays`):

    whole    before 10.0   elements that differ each have their index; a null element has the type of the others
    split    10.0          no index on the last one; null elements are a "nullptr" of their own, neighbours together
    marked   since 11.1    no index; null elements are a "ptr-marker"

What a failed load says differs by release too (see `LoadError`): 11.1 puts the reason into one chain, older ones print
lines.

QEMU: migration/vmstate.c, include/migration/vmstate.h
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fakeqemu.error import QemuError, StreamError
from fakeqemu.migration.stream.qemu_file import EndOfStream, QEMUFile, c_string
from fakeqemu.migration.stream.section import QEMU_VM_SUBSECTION, put_subsection_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

#: markers in arrays of pointers
VMS_MARKER_PTR_NULL = ord("0")
VMS_MARKER_PTR_VALID = ord("1")

#: ways to describe the elements of an array
WHOLE, SPLIT, MARKED = "whole", "split", "marked"

_SUBSECTION = bytes((QEMU_VM_SUBSECTION,))

#: what a field adds to its own entry of the description
Members = list[tuple[str, Any]]


@dataclass(slots=True)
class Field:
    """One field of a description. Made by the functions of `vmstate_fields`, which carry QEMU's names of the kinds."""

    name: str
    #: QEMU's name of the kind, as it stands in the vmdesc
    kind: str
    #: bytes of one element, where that is fixed
    size: int
    #: writes an element; `arrays` as in `save_state`; returns what it adds to the field's description
    put: Callable[[QEMUFile, Any, str], Members | None]
    #: reads an element; the second argument is what is there. Missing bytes are zeroes: the walk finds the end
    get: Callable[[QEMUFile, Any], Awaitable[Any]]
    since: int = 0
    #: number of elements, None for a single one
    count: int | None = None
    #: member that holds the number of elements, and by how much it is multiplied
    count_from: str = ""
    count_factor: int = 1
    #: overrides `since`: (state, version) -> present
    exists: Callable[[Any, int], bool] | None = None
    #: the predicate has to be true, whoever saves or loads
    must_exist: bool = False
    #: the description of the elements
    struct: VMStateDescription | None = None
    #: elements may be None: an array of pointers
    nullable: bool = False
    #: (array of pointers) makes an element on load: each is then sent with a marker
    make: Callable[[], Any] | None = None
    #: (array of structures) makes an element on load, whatever was there
    alloc: Callable[[], Any] | None = None
    #: there is no member of that name: nothing is kept, or `get` and `put` are about the whole state
    whole_state: bool = False

    def present(self, state: Any, version_id: int) -> bool:
        return self.exists(state, version_id) if self.exists is not None else self.since <= version_id

    def can_compress(self) -> bool:
        """Whether one entry of the description may stand for many elements, all being alike."""
        if self.exists is not None or self.make is not None:
            return False
        if self.struct is None:
            return True
        return not self.struct.subsections and all(one.can_compress() for one in self.struct.fields)


@dataclass(slots=True)
class VMStateDescription:
    """How the state of one kind of device travels."""

    name: str
    version_id: int
    minimum_version_id: int = 0
    fields: tuple[Field, ...] = ()
    subsections: tuple[VMStateDescription, ...] = ()
    priority: int = 0
    unmigratable: bool = False
    early_setup: bool = False
    needed: Callable[[Any], bool] | None = None
    #: raises QemuError when there is something that cannot be sent
    pre_save: Callable[[Any], None] | None = None
    #: called after every save, also one that failed
    post_save: Callable[[Any], None] | None = None
    #: raises PostLoadError
    pre_load: Callable[[Any], None] | None = None
    #: called with the state and the version that came; raises PostLoadError
    post_load: Callable[[Any, int], None] | None = None

    def is_needed(self, state: Any) -> bool:
        return self.needed is None or self.needed(state)


class PostLoadError(StreamError):
    """A hook refused what came, or that something comes.

    The text goes to stderr, but where releases build a chain of reasons (11.1) and `in_chain` says so, it goes there.
    Without `said` it goes to no stderr at all: the hook has printed what is to be printed.
    """

    def __init__(
        self, text: str, error_number: int = errno.EINVAL, *, in_chain: bool = False, said: bool = True
    ) -> None:
        super().__init__(text, error_number)
        self.in_chain = in_chain
        self.said = said


class PreSaveError(QemuError):
    """A hook found that there is something that cannot be sent. The text is that of 11.1, `old_desc` of older releases."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"pre-save for {name} failed: {reason}")
        self.old_desc = f"pre-save failed: {name}"


class LoadError(StreamError):
    """A load failed. `chain` is the text of 11.1, `lines` what older releases (and 11.1 too) print on stderr."""

    def __init__(self, chain: str, error_number: int = errno.EINVAL, old_lines: list[str] | None = None,
                 lines: list[str] | None = None) -> None:  # fmt: skip
        super().__init__(chain, error_number)
        #: printed by releases without the chain
        self.old_lines = old_lines or []
        #: printed by releases with it
        self.lines = lines or []

    def outer(self, chain: str = "", *old_lines: str) -> LoadError:
        """The same as the level above says it: with another text, and more lines."""
        return LoadError(chain or self.desc, self.errno, [*self.old_lines, *old_lines], self.lines)


class _Repeated(dict[str, Any]):
    """An object of the description in which names may come again, as each element of a list brings its own."""

    def __init__(self, pairs: Members) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def items(self) -> Members:  # type: ignore[override]
        return self._pairs


# --- saving ---------------------------------------------------------------------------------------------


def save_state(
    f: QEMUFile, vmsd: VMStateDescription, state: Any, version_id: int = -1, *, arrays: str = MARKED
) -> dict[str, Any]:
    """Write `state` as `vmsd` describes it; returns its description. Raises PreSaveError when a hook refuses."""
    version_id = vmsd.version_id if version_id < 0 else version_id
    if vmsd.pre_save is not None:
        try:
            vmsd.pre_save(state)
        except QemuError as err:
            raise PreSaveError(vmsd.name, err.desc) from None
    try:
        described: dict[str, Any] = {"vmsd_name": vmsd.name, "version": version_id, "fields": []}
        for one in vmsd.fields:
            if one.present(state, version_id):
                described["fields"] += _save_field(f, vmsd, one, state, arrays)
            else:
                assert not one.must_exist, f"Output state validation failed: {vmsd.name}/{one.name}"
        subsections = []
        for sub in vmsd.subsections:
            if sub.is_needed(state):
                put_subsection_header(f, sub.name, sub.version_id)
                subsections.append(save_state(f, sub, state, arrays=arrays))
        if subsections:
            described["subsections"] = subsections
        return described
    finally:
        if vmsd.post_save is not None:
            vmsd.post_save(state)


def _put_marker(f: QEMUFile, value: Any, _arrays: str) -> None:
    f.put_byte(VMS_MARKER_PTR_NULL if value is None else VMS_MARKER_PTR_VALID)


async def _get_marker(_f: QEMUFile, _old: Any) -> Any:
    raise AssertionError("markers are read by the walk")


#: stand in for a null element: one for all, nothing is made while an array is sent
_NULLPTR = Field("", "nullptr", 1, _put_marker, _get_marker)
_PTR_MARKER = Field("", "ptr-marker", 1, _put_marker, _get_marker)


def _save_field(f: QEMUFile, vmsd: VMStateDescription, one: Field, state: Any, arrays: str) -> list[dict[str, Any]]:
    """Write one field; returns its entries in the description: one, or one an element where elements differ."""
    elements = _elements_of(one, state)
    name = _unique_name(vmsd, one)
    entries: list[dict[str, Any]] = []
    for index, length, left in _entries(one, elements, arrays):
        for at in range(index, index + length):
            element = elements[at]
            is_null = one.nullable and element is None
            written = []
            if one.nullable and (is_null or one.make is not None):
                written.append(_PTR_MARKER if arrays == MARKED else _NULLPTR)
            if not is_null:
                written.append(one)
            for field in written:
                before = f.bytes_transferred
                members = field.put(f, element, arrays)
                if at > index:
                    continue  # described by the first one
                kind = one if arrays == WHOLE else field
                entry: Members = [
                    ("name", name),
                    *_place(kind, index, left if one.make is None else 1),
                    ("type", kind.kind),
                ]
                entry += _described(kind, members)
                entry.append(("size", f.bytes_transferred - before))
                entries.append(_object(entry))
    return entries


def _entries(one: Field, elements: list[Any], arrays: str) -> Iterator[tuple[int, int, int]]:
    """How the elements are described: (first one, how many the entry stands for, how many it says are left)."""
    total = len(elements)
    compress = one.can_compress()
    index = 0
    while index < total:
        if compress:
            length = left = _alike(elements, index) if one.nullable and arrays != WHOLE else total - index
        else:
            length = 1
            left = total if arrays == WHOLE else 1
            if arrays == SPLIT and elements[index] is not None:
                left = total - index
        yield index, length, left
        index += length


def _alike(elements: list[Any], index: int) -> int:
    """How many from there on are null, or are not, together."""
    is_null = elements[index] is None
    end = index + 1
    while end < len(elements) and (elements[end] is None) == is_null:
        end += 1
    return end - index


def _place(one: Field, index: int, left: int) -> Members:
    if left <= 1:
        return []
    return [("array_len", left)] if one.can_compress() else [("index", index)]


def _described(one: Field, members: Members | None) -> Members:
    if one.kind != "struct":
        return members or []
    return [("struct", dict(members or []))]


def _object(entry: Members) -> dict[str, Any]:
    result = dict(entry)
    return result if len(result) == len(entry) else _Repeated(entry)


def _unique_name(vmsd: VMStateDescription, one: Field) -> str:
    """Names that come more than once in a description are numbered."""
    same = [other for other in vmsd.fields if other.name == one.name]
    if len(same) == 1:
        return one.name
    return f"{one.name}[{next(n for n, other in enumerate(same) if other is one)}]"


def describe(vmsd: VMStateDescription, state: Any, *, arrays: str = MARKED) -> dict[str, Any]:
    """The entry of the vmdesc for `state`, without writing it anywhere."""
    return save_state(QEMUFile(), vmsd, state, arrays=arrays)


# --- members --------------------------------------------------------------------------------------------


def read_member(state: Any, name: str) -> Any:
    """A member of the state; `a.b` is the member b of its member a."""
    for part in name.split("."):
        state = state[part] if isinstance(state, dict) else getattr(state, part)
    return state


def _write_member(state: Any, name: str, value: Any) -> None:
    above, _, last = name.rpartition(".")
    if above:
        state = read_member(state, above)
    if isinstance(state, dict):
        state[last] = value
    else:
        setattr(state, last, value)


def _count(one: Field, state: Any) -> int | None:
    return int(read_member(state, one.count_from)) * one.count_factor if one.count_from else one.count


def _elements_of(one: Field, state: Any) -> list[Any]:
    count = _count(one, state)
    if one.whole_state:
        return [state] * (1 if count is None else count)
    value = read_member(state, one.name)
    return [value] if count is None else list(value[:count])


# --- loading --------------------------------------------------------------------------------------------


async def load_state(f: QEMUFile, vmsd: VMStateDescription, state: Any, version_id: int) -> None:
    """Read what `save_state` of that version wrote; raises LoadError."""
    f.faults.check("vmstate_load_state", name=vmsd.name, version_id=version_id, local=vmsd.version_id)
    if version_id > vmsd.version_id:
        text = f"{vmsd.name}: incoming version_id {version_id} is too new for local version_id {vmsd.version_id}"
        raise LoadError(text, old_lines=[text])
    if version_id < vmsd.minimum_version_id:
        text = f"{vmsd.name}: incoming version_id {version_id} is too old for local minimum version_id"
        raise LoadError(f"{text} {vmsd.minimum_version_id}", old_lines=[f"{text}  {vmsd.minimum_version_id}"])
    if vmsd.pre_load is not None:
        try:
            vmsd.pre_load(state)
        except PostLoadError as err:
            chain = (
                f"pre load hook failed for: '{vmsd.name}', version_id: {vmsd.version_id}, "
                f"minimum version_id: {vmsd.minimum_version_id}"
            )
            raise _refused(err, chain) from None
    for one in vmsd.fields:
        if one.present(state, version_id):
            await _load_field(f, vmsd, one, state)
        elif one.must_exist:
            text = f"Input validation failed: {vmsd.name}/{one.name}"
            raise LoadError(f"{text} version_id: {vmsd.version_id}", old_lines=[text])
    await _load_subsections(f, vmsd, state)
    if vmsd.post_load is not None:
        try:
            f.faults.check("fake_vmstate_post_load", name=vmsd.name)
            vmsd.post_load(state, version_id)
        except PostLoadError as err:
            chain = (
                f"post load hook failed for: {vmsd.name}, version_id: {vmsd.version_id}, "
                f"minimum_version: {vmsd.minimum_version_id}"
            )
            raise _refused(err, chain) from None


def _refused(err: PostLoadError, chain: str) -> LoadError:
    chain += f": {err.desc}" if err.in_chain else f", ret: -{err.errno}"
    lines = [err.desc] if err.said and err.desc else []
    return LoadError(chain, err.errno, old_lines=lines, lines=[] if err.in_chain else lines)


async def _load_field(f: QEMUFile, vmsd: VMStateDescription, one: Field, state: Any) -> None:
    count = _count(one, state)
    old = state if one.whole_state else read_member(state, one.name)
    values: list[Any] = []
    try:
        f.faults.check("vmstate_load_state_field", name=vmsd.name, field=one.name)
        for index in range(1 if count is None else count):
            element = old if count is None or one.whole_state else _element_there(one, old, index)
            values.append(await _load_element(f, one, element))
            if f.end is not None:
                raise f.end
    except EndOfStream as err:
        # 11.1 names the description, older ones description and field.
        chain = f"Failed to load {vmsd.name} state: stream error: -{err.errno}"
        raise LoadError(chain, err.errno, [f"Failed to load {vmsd.name}:{one.name}"]) from None
    except LoadError as err:
        raise err.outer("", f"Failed to load {vmsd.name}:{one.name}") from None
    except StreamError as err:  # said by the field's own reader, which has no words for the chain
        chain = f"Failed to load element of type {one.kind} for {one.name}"
        lines = [err.desc] if err.desc else []
        raise LoadError(chain, err.errno, [*lines, f"Failed to load {vmsd.name}:{one.name}"], lines) from None
    stays = one.struct is not None and not one.nullable and one.alloc is None
    if not one.whole_state and not stays:
        _write_member(state, one.name, values[0] if count is None else values)


def _element_there(one: Field, old: Any, index: int) -> Any:
    """What an element of an array is loaded into, or compared with."""
    if one.make is not None:
        return None
    if one.alloc is not None:
        return one.alloc()
    if index < len(old):
        return old[index]
    if one.struct is not None or one.nullable:
        raise StreamError(f"{one.name} has room for {len(old)} elements")  # QEMU writes behind its memory
    return None


async def _load_element(f: QEMUFile, one: Field, element: Any) -> Any:
    if one.nullable and element is None:
        marker = await f.take_uint(1)
        if marker == VMS_MARKER_PTR_NULL:
            return None
        if marker != VMS_MARKER_PTR_VALID or one.make is None:
            expected = "vmstate: get_nullptr expected VMS_NULLPTR_MARKER"
            raise LoadError(f"Unexpected ptr marker: {marker}", old_lines=[expected])
        element = one.make()
    value = await one.get(f, element)
    return element if one.struct is not None else value


async def _load_subsections(f: QEMUFile, vmsd: VMStateDescription, state: Any) -> None:
    while (data := await next_subsection(f, vmsd.name)) is not None:
        name = c_string(data)
        sub = next((s for s in vmsd.subsections if s.name == name), None)
        f.faults.check("vmstate_subsection_load", name=vmsd.name, sub=name)
        if sub is None:
            raise LoadError(f"VM subsection '{name}' in '{vmsd.name}' does not exist", errno.ENOENT)
        f.skip(2 + len(data))
        version_id = await f.take_uint(4) & 0xFF  # QEMU keeps a byte of it
        try:
            await load_state(f, sub, state, version_id)
        except LoadError as err:
            raise err.outer(f"Loading VM subsection '{name}' in '{vmsd.name}' failed: {err.desc}") from None


async def next_subsection(f: QEMUFile, above: str) -> bytes | None:
    """The name of the subsection that comes next, left where it is; None when it is not one of the state `above`.

    Its name may not be all there, or belong to an outer level.
    """
    if await f.peek(1) != _SUBSECTION:
        return None
    prefix = above.encode()
    head = await f.peek(2)
    length = head[1] if len(head) == 2 else 0
    if length < len(prefix) + 1:
        return None
    name = (await f.peek(2 + length))[2:]
    if len(name) < length or not name.startswith(prefix):
        return None
    return name
