"""The Python interface of finetune-bench: read results, run cases, compare, audit. Imports no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import PREFIX
from harness.lazy import lazy_names

if TYPE_CHECKING:
    from finetune_bench.auditing import audit
    from finetune_bench.running import compare, run
    from harness.contract import Model
    from harness.errors import Declined, Refused
    from harness.spec import Scenario, Stage
    from results.tables.load import load
    from results.tables.tabulate import table

__all__ = ["Declined", "Model", "Refused", "Scenario", "Stage", "audit", "compare", "load", "run", "table"]

_HOMES = {
    "Declined": f"{PREFIX}harness.errors",
    "Model": f"{PREFIX}harness.contract",
    "Refused": f"{PREFIX}harness.errors",
    "Scenario": f"{PREFIX}harness.spec",
    "Stage": f"{PREFIX}harness.spec",
    "audit": f"{__name__}.auditing",
    "compare": f"{__name__}.running",
    "load": f"{PREFIX}results",
    "run": f"{__name__}.running",
    "table": f"{PREFIX}results",
}
# pandas and scipy take a second.
__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
