"""What came out: the store of records, and the pure functions over them. Imports no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.tables.load import load
    from results.tables.tabulate import table

__all__ = ["load", "table"]


def __getattr__(name: str) -> Any:
    # pandas and scipy take a second and 100 MB; a process that only stores records goes without them.
    if name == "load":
        from results.tables.load import load

        return load
    if name == "table":
        from results.tables.tabulate import table

        return table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
