"""Results: the store of records, and pure functions over records. Imports no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.lazy import lazy_names

if TYPE_CHECKING:
    from results.tables.load import load
    from results.tables.tabulate import table

__all__ = ["load", "table"]

# pandas and scipy take a second and 100 MB; a process that only stores records does not import them.
__getattr__ = lazy_names(__name__, {"load": f"{__name__}.tables.load", "table": f"{__name__}.tables.tabulate"})
