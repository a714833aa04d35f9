# SPDX-License-Identifier: MIT
"""Lists, trees and tables as fields of a description: each says itself where it ends.

    qtailq, qlist    { 01 element }* 00
    gtree            be32 count, { 01 key value }* 00        in the order of the keys
    ghash            the same bytes, in the order of the table's buckets: proposed for QEMU, not released

An element, a value, and a key that is no plain number, have a description of their own. A list is a Python list of
states, a tree or table a list of pairs (key, state).

A program that keeps a table but sends a list (as the descriptors that survive an exec) flattens the one into the other in
a pre-save hook, and builds it again in a post-load hook.

QEMU: migration/vmstate-types.c (vmstate_info_qtailq, _qlist, _gtree)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.migration.stream.vmstate import Field, LoadError, Members, load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.migration.stream.vmstate import VMStateDescription


def _check_version(description: VMStateDescription, version_id: int) -> None:
    """The version of a list is the field's: it has to suit the elements. Raises LoadError."""
    text = ""
    if version_id > description.version_id:
        text = f"{description.name} too new"
    elif version_id < description.minimum_version_id:
        text = f"{description.name} too old"
    if text:
        raise LoadError(text, old_lines=[text])


def qtailq(
    name: str, description: VMStateDescription, make: Callable[[], Any], *, version: int, **options: Any
) -> Field:
    """A queue whose elements `make()` makes on load; they come behind those that are there."""
    return _list(name, "qtailq", description, make, version, named=False, **options)


def qlist(
    name: str, description: VMStateDescription, make: Callable[[], Any], *, version: int, **options: Any
) -> Field:
    """A list whose elements `make()` makes on load, in the order of the stream; they come before those that are there."""
    return _list(name, "qlist", description, make, version, named=True, **options)


def _list(
    name: str, kind: str, description: VMStateDescription, make: Callable[[], Any], version: int, *, named: bool,
    **options: Any,
) -> Field:  # fmt: skip
    def put(f: QEMUFile, elements: Any, arrays: str) -> Members:
        members: Members = []
        for element in elements:
            f.put_byte(1)
            members += save_state(f, description, element, arrays=arrays).items()
        f.put_byte(0)
        return members

    async def get(f: QEMUFile, old: Any) -> list[Any]:
        _check_version(description, version)
        elements: list[Any] = []
        while await f.take_uint(1):
            element = make()
            try:
                await load_state(f, description, element, version)
            except LoadError as err:
                lines = [f"{name}: failed to load {description.name} (-{err.errno})"] if named else []
                raise err.outer("", *lines) from None
            elements.append(element)
        return elements + list(old or ()) if named else list(old or ()) + elements

    return Field(name, kind, 0, put, get, **options)


def gtree(
    name: str, value: VMStateDescription, make: Callable[[], Any], *, version: int, order: Callable[[Any], Any] | None = None,
    key: VMStateDescription | None = None, make_key: Callable[[], Any] | None = None, **options: Any,
) -> Field:  # fmt: skip
    """A balanced tree: pairs sent in the order that `order(key)` gives (the keys' own, without).

    Keys are plain numbers, or states of the description `key` that `make_key()` makes on load.
    """
    sort: Callable[[Any], Any] = order if order is not None else lambda one: one
    return _pairs(name, "gtree", value, make, version, key, make_key, sort, **options)


def ghash(
    name: str, value: VMStateDescription, make: Callable[[], Any], *, version: int, key: VMStateDescription | None = None,
    make_key: Callable[[], Any] | None = None, **options: Any,
) -> Field:  # fmt: skip
    """A hash table: as `gtree`, with the pairs in the order in which they are given."""
    return _pairs(name, "ghash", value, make, version, key, make_key, None, **options)


def _pairs(
    name: str, kind: str, value: VMStateDescription, make: Callable[[], Any], version: int,
    key: VMStateDescription | None, make_key: Callable[[], Any] | None, order: Callable[[Any], Any] | None, **options: Any,
) -> Field:  # fmt: skip
    def put(f: QEMUFile, pairs: Any, arrays: str) -> Members:
        members: Members = []
        f.put_be32(len(pairs))
        for one, state in pairs if order is None else sorted(pairs, key=lambda pair: order(pair[0])):
            f.put_byte(1)
            if key is None:
                f.put_be64(one)
            else:
                members += save_state(f, key, one, arrays=arrays).items()
            members += save_state(f, value, state, arrays=arrays).items()
        f.put_byte(0)
        return members

    async def get(f: QEMUFile, old: Any) -> list[tuple[Any, Any]]:
        for description in (key, value):
            if description is not None:
                _check_version(description, version)
        pairs = list(old or ())
        places = {one: at for at, (one, _) in enumerate(pairs)} if key is None else {}
        announced, count = await f.take_uint(4), 0
        while await f.take_uint(1):
            count += 1
            if count > announced:
                break
            if key is None:
                one: Any = await f.take_uint(8)
            else:
                assert make_key is not None
                one = await load_one(f, key, make_key())
            state = await load_one(f, value, make())
            # The last one of equal keys stays.
            at = places.setdefault(one, len(pairs)) if key is None else _place_of(one, pairs)
            pairs[at : at + 1] = [(one, state)]
        if count != announced:
            text = f"{name} inconsistent stream when loading the {kind}"
            raise LoadError(text, old_lines=[text])
        return pairs

    async def load_one(f: QEMUFile, description: VMStateDescription, state: Any) -> Any:
        try:
            await load_state(f, description, state, version)
        except LoadError as err:
            raise err.outer("", f"{name} : failed to load {description.name} (-{err.errno})") from None
        return state

    return Field(name, kind, 0, put, get, **options)


def _place_of(key: Any, pairs: list[tuple[Any, Any]]) -> int:
    """Where a key is, or has its place."""
    return next((at for at, (other, _) in enumerate(pairs) if other == key), len(pairs))
