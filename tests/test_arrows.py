"""The layout of DESIGN 3, read from the syntax tree of every file: which package may import which."""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
BELOW = {
    "harness": (),
    "backends": ("harness",),
    "results": ("backends", "harness"),
    "benchmarks": ("results", "backends", "harness"),
    "finetune_bench": ("benchmarks", "results", "backends", "harness"),
}
FRAMEWORKS = {"torch", "torchvision", "efficientnet_pytorch", "tensorflow", "keras", "jax", "jaxlib", "tf_keras"}
LONGEST = 500
MOST = 12
"""Modules of a folder at most."""
BY_NAME = {"import_module", "import_quickly", "__import__", "find_spec", "import_string"}

FILES = sorted(path for package in BELOW for path in (ROOT / package).rglob("*.py"))


def imports(tree: ast.Module, module: str) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, in full, at whatever depth, by statement or by a literal name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            yield base, node.lineno
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in BY_NAME and node.args and _literal_start(node.args[0]):
            yield _literal_start(node.args[0]), node.lineno


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _literal_start(node: ast.expr) -> str:
    """The name, or the part of an f-string before its first variable, or nothing."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Facts(NamedTuple):
    """A file's lines, imports, modules named in strings and public classes, without its syntax tree."""

    lines: int
    imports: list[tuple[str, int]]
    named: list[str]
    classes: list[str]


@functools.cache
def facts_of(path: Path) -> Facts:
    text = path.read_text()
    tree = ast.parse(text)
    # A package's __init__ counts as a module of that name inside it, so that relative imports resolve.
    name = module_of(path) + (".__init__" if path.name == "__init__.py" else "")
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    named = [_literal_start(call.args[0]) for call in calls if _called(call) in BY_NAME]
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return Facts(len(text.splitlines()), list(imports(tree, name)), named, classes)


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def by_file(wrong: Callable[[Path], list[Any]]) -> dict[str, list[Any]]:
    """The files that have something wrong, and what it is."""
    return {str(path.relative_to(ROOT)): found for path in FILES if (found := wrong(path))}


def wrong_arrows(package: str, found: list[tuple[str, int]]) -> list[str]:
    forbidden = {*BELOW, "tests"} - {package, *BELOW[package]}
    return [f"line {n}: {name}" for name, n in found if name.split(".")[0] in forbidden]


def test_there_is_something_to_check() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(BELOW)
    assert len(FILES) > 50


def test_a_package_imports_only_what_stands_below_it() -> None:
    assert by_file(lambda path: wrong_arrows(package_of(path), facts_of(path).imports)) == {}


def test_a_module_named_in_a_string_has_the_prefix_that_a_wheel_needs() -> None:
    # `harness.PREFIX` comes first: f"{PREFIX}backends.{name}", by which a worker finds a backend, is an arrow of data.
    assert by_file(lambda path: [name for name in facts_of(path).named if name.split(".")[0] in BELOW]) == {}


def test_frameworks_are_imported_nowhere_but_in_backends() -> None:
    found = by_file(lambda path: [one for one in facts_of(path).imports if one[0].split(".")[0] in FRAMEWORKS])
    assert {path for path in found if not path.startswith("backends/")} == set()
    assert found, "no import of a framework was seen"


def test_a_file_can_be_read_in_one_sitting() -> None:
    assert by_file(lambda path: [facts_of(path).lines] if facts_of(path).lines > LONGEST else []) == {}


@pytest.mark.parametrize(
    "backend", sorted(p.name for p in (ROOT / "backends").iterdir() if (p / "__init__.py").exists())
)
def test_naming_a_backend_imports_no_framework(backend: str) -> None:
    tree = ast.parse((ROOT / "backends" / backend / "__init__.py").read_text())
    at_the_top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    found = {name.split(".")[0] for name, _ in imports(at_the_top, f"backends.{backend}.__init__")}
    assert not found & FRAMEWORKS


def test_backends_do_not_know_each_other() -> None:
    own = {path.parent for path in (ROOT / "backends").glob("*/__init__.py")}
    for path in (path for path in FILES if any(home in path.parents for home in own)):
        backend = path.relative_to(ROOT).parts[1]
        others = [name for name, _ in facts_of(path).imports if name.startswith("backends.") and name.count(".") >= 1]
        assert [name for name in others if name.split(".")[1] != backend] == [], path


@pytest.mark.parametrize("package", BELOW)
def test_no_circle_of_imports_inside_a_package(package: str) -> None:
    graph = import_graph(package)
    assert circle(graph) == []


def import_graph(package: str) -> dict[str, set[str]]:
    """Modules of a package and which of its modules each imports; importing a module imports its parents too."""
    modules = {module_of(path): path for path in FILES if package_of(path) == package}
    return {
        module: {name for name, _ in facts_of(path).imports if name in modules} - {module, *parents(module)}
        for module, path in modules.items()
    }


def parents(module: str) -> list[str]:
    return list(itertools.accumulate(module.split(".")[:-1], lambda left, right: f"{left}.{right}"))


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, or nothing."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for imported in sorted(graph[module]):
            if found := visit(imported, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in graph if (found := visit(module, []))), [])


def test_the_checks_see_what_they_look_for() -> None:
    code = """
from importlib import import_module
import torch.nn as nn
def late():
    from results import tabulate
    import_module("backends.pytorch")
    import_module(f"backends.{name}")
"""
    found = list(imports(ast.parse(code), "harness.run"))
    assert wrong_arrows("harness", found) == [
        "line 5: results", "line 5: results.tabulate", "line 6: backends.pytorch", "line 7: backends."]  # fmt: skip
    assert "torch.nn" in [name for name, _ in found]
    assert ("harness.spec", 1) in list(imports(ast.parse("from . import spec"), "harness.run"))
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def public_classes() -> dict[str, list[str]]:
    """The modules that define each public class, by its name."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for name in facts_of(path).classes:
            found.setdefault(name, []).append(module_of(path))
    return found


def test_a_class_name_means_one_thing() -> None:
    assert {name: modules for name, modules in public_classes().items() if len(modules) > 1} == {}


def test_a_folder_can_be_surveyed() -> None:
    for folder in {path.parent for path in FILES}:
        modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MOST, folder
        assert (folder / "__init__.py").exists()


@pytest.mark.parametrize("package", BELOW)
def test_no_circle_of_imports_between_folders_beside_each_other(package: str) -> None:
    assert circle(folder_graph(import_graph(package))) == []


def folder_graph(modules: dict[str, set[str]]) -> dict[str, set[str]]:
    """Which folder imports from which; what a folder imports from the folders inside or around it is left out."""
    folders = {
        module: module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]
        for module in modules
    }
    graph: dict[str, set[str]] = {folder: set() for folder in folders.values()}
    for module, imported in modules.items():
        own = folders[module]
        others = {folders[name] for name in imported} - {own}
        graph[own] |= {other for other in others if own not in parents(other) and other not in parents(own)}
    return graph
