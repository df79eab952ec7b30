"""Files and functions stay small enough to read (CONTRIBUTING.md, Sizes)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for top in ("services", "libs") for p in (ROOT / top).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE, TEST_FILE, PROTO_FILE, SERVICER_FILE = 300, 400, 300, 250
FUNCTION, CLASS, NESTING, PARAMETERS, RPC = 40, 200, 3, 7, 15
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def too_large(paths: list[Path], ceiling: int) -> list[str]:
    lengths = {p: len(p.read_text().splitlines()) for p in paths}
    return [f"{p.relative_to(ROOT)}: {n} lines, ceiling {ceiling}" for p, n in lengths.items() if n > ceiling]


def definitions(paths: list[Path]) -> Iterator[tuple[Path, ast.AST]]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            yield path, node


def length(node: Function | ast.ClassDef) -> int:
    """Lines of a definition without its docstring."""
    end = node.end_lineno or node.lineno
    documented = ast.get_docstring(node, clean=False) is not None
    doc = (node.body[0].end_lineno or 0) - node.body[0].lineno + 1 if documented else 0
    return end - node.lineno + 1 - doc


def depth(node: ast.AST) -> int:
    """Deepest nesting of control flow; `elif` counts as its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        chained = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, depth(child) + (isinstance(child, _BLOCKS) and not chained))
    return deepest


def test_files() -> None:
    servicers = [p for p in SOURCES if p.stem.endswith("servicer")]
    protos = sorted((ROOT / "protos" / "darkroom").rglob("*.proto"))
    found = too_large(SOURCES, FILE) + too_large(TESTS, TEST_FILE) + too_large(servicers, SERVICER_FILE)
    assert found + too_large(protos, PROTO_FILE + 50) == []  # job.proto holds every shared type with its comments


def parameters(node: Function) -> list[ast.arg]:
    """Parameters that a caller passes; those of a command line's command are its options and not counted."""
    given = [a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
    is_command = (
        bool(given) and given[0].arg == "context" and ast.unparse(given[0].annotation or node) == "typer.Context"
    )
    return [] if is_command else given


def test_functions() -> None:
    functions = [(f"{p.relative_to(ROOT)}:{n.lineno}", n) for p, n in definitions(SOURCES) if isinstance(n, Function)]
    assert functions
    found = [f"{place} {n.name}: {length(n)} lines" for place, n in functions if length(n) > FUNCTION]
    found += [f"{place} {n.name}: nested {depth(n)} deep" for place, n in functions if depth(n) > NESTING]
    found += [
        f"{place} {n.name}: {len(parameters(n))} parameters"
        for place, n in functions
        if len(parameters(n)) > PARAMETERS
    ]
    assert found == []


def test_classes() -> None:
    classes = [(p, n) for p, n in definitions(SOURCES) if isinstance(n, ast.ClassDef)]
    assert [f"{p.relative_to(ROOT)}: {n.name}" for p, n in classes if length(n) > CLASS] == []


def test_rpc_methods() -> None:
    rpcs = [
        (p, n)
        for p, n in definitions([p for p in SOURCES if "servicer" in p.stem])
        if isinstance(n, ast.AsyncFunctionDef) and n.name[0].isupper()
    ]
    assert rpcs
    assert [f"{p.relative_to(ROOT)}: {n.name} {length(n)} lines" for p, n in rpcs if length(n) - 1 > RPC] == []


def test_names_and_packages() -> None:
    assert [p for p in SOURCES if BANNED_NAMES & set(p.relative_to(ROOT).with_suffix("").parts)] == []
    code_in_init = [p for p in SOURCES if p.name == "__init__.py" and len(ast.parse(p.read_text()).body) > 1]
    assert code_in_init == []


def test_tests_never_sleep() -> None:
    named = [(p, n) for p, n in definitions(TESTS) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    sleeps = [
        f"{p.relative_to(ROOT)}:{n.lineno}"
        for p, n in named
        if isinstance(n.func, ast.Attribute)
        and n.func.attr == "sleep"
        and isinstance(n.func.value, ast.Name)
        and n.func.value.id in ("time", "asyncio")
        and not (n.args and isinstance(n.args[0], ast.Constant) and n.args[0].value == 0)
    ]
    assert sleeps == []


@pytest.mark.parametrize(("text", "expected"), [("if a:\n if b:\n  c", 2), ("if a:\n b\nelif c:\n d", 1)])
def test_depth_counts_what_it_says(text: str, expected: int) -> None:
    assert depth(ast.parse(text)) == expected
