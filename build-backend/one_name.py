"""The build backend: setuptools, and wheels with one name at the top, `finetune_bench`.

Names such as `results` belong to whoever installs the wheel. `build_wheel` copies the packages of the checkout into the
package `finetune_bench` and changes their absolute imports; `finetune_bench.results` is then the package `results` of
the checkout. An editable installation and a source distribution have the layout of the checkout.
"""

from __future__ import annotations

import ast
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
]

NAME = "finetune_bench"
INSIDE = ("harness", "backends", "results", "benchmarks")
OTHERS = ("pyproject.toml", "README.md", "LICENSE")


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, str | list[str] | None] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel from a changed copy of the checkout in the current folder, and return its file name."""
    target, source = str(Path(wheel_directory).resolve()), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        lay_out(source, Path(folder))
        os.chdir(folder)
        try:
            return str(build_meta.build_wheel(target, config_settings))
        finally:
            os.chdir(source)


def lay_out(source: Path, target: Path) -> None:
    """Copy the packages of a checkout into one package, with other imports, and the files that setuptools reads."""
    not_copied = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source / NAME, target / NAME, ignore=not_copied)
    for package in INSIDE:
        shutil.copytree(source / package, target / NAME / package, ignore=not_copied)
    for name in OTHERS:
        shutil.copy(source / name, target / name)
    for path in (target / NAME).rglob("*.py"):
        path.write_text(with_prefix(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_prefix(source: str) -> str:
    """Return source code that imports this project's packages from `finetune_bench`; every line keeps its number.

    Raises ValueError for an import of them that is not on one line, or has two spaces after `from`.

    >>> with_prefix("from harness.spec import Case")
    'from finetune_bench.harness.spec import Case'
    >>> with_prefix("import results.tables.load")
    'import finetune_bench.results.tables.load; from finetune_bench import results'
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        before = after = ""
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_inside(node.module or ""):
            before, after = f"from {node.module} ", f"from {NAME}.{node.module} "
        elif isinstance(node, ast.Import) and any(_is_inside(alias.name) for alias in node.names):
            before, after = ast.unparse(node), "; ".join(_statements(node))
        start, number = getattr(node, "col_offset", 0), getattr(node, "lineno", 1) - 1
        if before:
            if not lines[number].startswith(before, start):
                raise ValueError(f"line {number + 1}: write `{before.strip()}` on one line")
            lines[number] = lines[number][:start] + lines[number][start:].replace(before, after, 1)
    return "".join(lines)


def _is_inside(module: str) -> bool:
    return module.partition(".")[0] in INSIDE


def _statements(node: ast.Import) -> Iterator[str]:
    for alias in node.names:
        top, _, deeper = alias.name.partition(".")
        if not _is_inside(alias.name):
            yield ast.unparse(ast.Import([alias]))
        elif alias.asname:
            yield f"import {NAME}.{alias.name} as {alias.asname}"
        else:
            yield from [f"import {NAME}.{alias.name}"] if deeper else []
            yield f"from {NAME} import {top}"
