# SPDX-License-Identifier: MIT
"""Lower layers know nothing of higher ones: imports are read from the source and compared with the table below.

An import inside a function loads on first use; it may reach up only where the lower module hands out a part that is made
on first use (`LAZY`). Imports for the type checker alone are not looked at.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fakeqemu

PACKAGE = Path(fakeqemu.__file__).parent

#: longest prefix wins; a module may import modules of its own layer and of lower ones
LAYERS: dict[str, int] = {
    "fakeqemu": 0,
    "fakeqemu.error": 0,
    "fakeqemu.trace": 0,
    "fakeqemu.notify": 0,
    "fakeqemu.qapi": 1,
    "fakeqemu.host": 1,
    "fakeqemu.migration.stream": 1,
    "fakeqemu.qom": 2,
    "fakeqemu.system": 2,
    "fakeqemu.migration.register": 2,
    "fakeqemu.migration.state": 2,
    "fakeqemu.migration.options": 2,
    "fakeqemu.migration.stats": 2,
    "fakeqemu.hw": 3,
    "fakeqemu.authz": 3,
    "fakeqemu.chardev": 3,
    "fakeqemu.crypto": 3,
    "fakeqemu.net": 3,
    "fakeqemu.ui": 3,
    "fakeqemu.ui.hmp_cmds": 6,
    "fakeqemu.migration": 4,
    "fakeqemu.migration.hmp_actions": 6,  # commands, as people type them
    "fakeqemu.monitor.hmp_trace": 6,
    "fakeqemu.monitor": 5,
    "fakeqemu.vl": 6,
    "fakeqemu.faults": 7,
    "fakeqemu.scenario": 7,
    "fakeqemu.io": 1,  # a way to be a Host; who may import it is checked apart
    "fakeqemu.sim": 1,
    "fakeqemu.record": 8,
    "fakeqemu.testing": 8,
    "fakeqemu.cli": 8,
    "fakeqemu.tool": 8,
    "fakeqemu.tool_commands": 8,
    "fakeqemu.tool_shell": 8,
    "fakeqemu.shim": 8,
    "fakeqemu.health": 8,
    "fakeqemu.demo": 8,
    "fakeqemu.__main__": 9,
}

COMMANDS = "qmp_cmds"  # commands see everything below the composing layer and are seen by the registry alone
COMMANDS_LAYER = 6

#: only these name a way to be a Host
COMPOSERS = ("fakeqemu.cli", "fakeqemu.testing", "fakeqemu.record", "fakeqemu.tool", "fakeqemu.io", "fakeqemu.sim")

ASYNCIO_ALLOWED = (
    "fakeqemu.io", "fakeqemu.sim", "fakeqemu.testing", "fakeqemu.cli", "fakeqemu.record", "fakeqemu.demo",
    "fakeqemu.health", "fakeqemu.tool",
)  # fmt: skip

BANNED_BELOW = {
    "time.time", "time.monotonic", "time.monotonic_ns", "time.time_ns", "time.sleep", "datetime.now", "datetime.datetime.now",
    "random.random", "random.randint", "random.choice", "os.urandom", "uuid.uuid4", "uuid.uuid1", "secrets.token_bytes",
}  # fmt: skip


def modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def source(name: str) -> ast.Module:
    path = PACKAGE.parent / Path(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text())


def layer(name: str) -> int:
    if name.rsplit(".", 1)[-1].startswith(COMMANDS):
        return COMMANDS_LAYER
    while name not in LAYERS:
        name = name.rpartition(".")[0]
    return LAYERS[name]


def imports(tree: ast.AST, *, lazy: bool) -> Iterator[str]:
    """Modules imported when the module is loaded, or (`lazy`) those imported inside functions."""

    def walk(node: ast.AST, in_function: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                for other in child.orelse:
                    yield from walk(other, in_function)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield from walk(child, True)
            elif in_function == lazy and isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif in_function == lazy and isinstance(child, ast.ImportFrom) and child.module:
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    yield full if full in ALL else child.module
            else:
                yield from walk(child, in_function)

    return walk(tree, False)


ALL = modules()


@pytest.mark.parametrize("name", ALL)
def test_no_import_reaches_upwards(name: str) -> None:
    up = [
        target
        for target in imports(source(name), lazy=False)
        if target.startswith("fakeqemu") and layer(target) > layer(name)
    ]
    assert not up, f"{name} (layer {layer(name)}) imports {up}"


@pytest.mark.parametrize("name", ALL)
def test_only_the_top_names_a_way_to_be_a_host(name: str) -> None:
    tree = source(name)
    named = [
        t for lazy in (False, True) for t in imports(tree, lazy=lazy) if t.startswith(("fakeqemu.io", "fakeqemu.sim"))
    ]
    assert not named or name.startswith(COMPOSERS), f"{name} imports {named}"


@pytest.mark.parametrize("name", ALL)
def test_hw_and_migration_keep_apart(name: str) -> None:
    tree = source(name)
    targets = [t for lazy in (False, True) for t in imports(tree, lazy=lazy)]
    if name.startswith("fakeqemu.migration"):
        assert not [t for t in targets if t.startswith("fakeqemu.hw")]
    if name.startswith("fakeqemu.hw"):
        allowed = ("register", "state", "options", "stream", "stats")
        mine = [t for t in targets if t.startswith("fakeqemu.migration.")]
        assert not [t for t in mine if not t.split(".")[2].startswith(allowed)]


@pytest.mark.parametrize("name", ALL)
def test_asyncio_is_named_only_at_the_edges(name: str) -> None:
    tree = source(name)
    targets = [t for lazy in (False, True) for t in imports(tree, lazy=lazy)]
    if "asyncio" in targets:
        assert name.startswith(ASYNCIO_ALLOWED), name


@pytest.mark.parametrize("name", [n for n in ALL if layer(n) < 7 and not n.startswith(("fakeqemu.io", "fakeqemu.sim"))])
def test_time_and_chance_come_from_the_host(name: str) -> None:
    used = {ast.unparse(node.func) for node in ast.walk(source(name)) if isinstance(node, ast.Call)} & BANNED_BELOW
    assert not used, f"{name} uses {used}"


def test_every_source_file_names_its_licence() -> None:
    root = PACKAGE.parent
    files = [p for top in ("fakeqemu", "tests", "examples") for p in (root / top).rglob("*.py")]
    silent = [str(p) for p in files if "SPDX-License-Identifier: MIT" not in p.read_text()[:200]]
    assert not silent
