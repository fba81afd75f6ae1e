"""Results: the store of records, and pure functions over records. Imports no framework."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.tables.load import load
    from results.tables.tabulate import table

__all__ = ["load", "table"]


def __getattr__(name: str) -> Any:
    # pandas and scipy take a second and 100 MB; a process that only stores records does not import them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.tables.{'load' if name == 'load' else 'tabulate'}"), name)
