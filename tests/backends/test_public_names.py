"""Probes use the public parts of the code that is timed, so that a certificate proves what was timed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROBES = sorted([*ROOT.glob("backends/*/probing/*.py"), ROOT / "backends" / "reference" / "probe.py"])


def private_names(tree: ast.Module) -> Iterator[str]:
    """Names with a leading underscore that a module takes from another module or object."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            names = [node.attr]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr"):
            names = [one.value for one in node.args[1:2] if isinstance(one, ast.Constant)]
        else:
            continue
        yield from (f"line {node.lineno}: {name}" for name in names if name.startswith("_") and not _is_protocol(name))


def _is_protocol(name: str) -> bool:
    return name == "__future__" or (name.startswith("__") and name.endswith("__"))


@pytest.mark.parametrize("path", PROBES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_probe_uses_public_names_only(path: Path) -> None:
    assert list(private_names(ast.parse(path.read_text()))) == []


def test_every_backend_with_a_probe_is_looked_at() -> None:
    probed = {path.parent.name for path in ROOT.glob("backends/*/__init__.py") if "def open_probe" in path.read_text()}
    assert probed == {path.relative_to(ROOT).parts[1] for path in PROBES}


def test_the_check_sees_what_it_looks_for() -> None:
    code = """
from torch._dynamo import utils
from backends.keras3.session import _loss
class Probe:
    def ask(self):
        self._session._freeze()
        getattr(self._session, "_rates")
        return self._session.case, type(self).__name__
"""
    assert list(private_names(ast.parse(code))) == [
        "line 2: _dynamo", "line 3: _loss", "line 7: _rates", "line 6: _freeze"]  # fmt: skip
