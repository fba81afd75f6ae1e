"""The kernel: the definition of a case, its data, clock, audit and run. Imports no framework and no sibling package."""

from __future__ import annotations

PREFIX = __name__.removesuffix("harness")
"""What is before the names of this project's packages: nothing in a checkout, `finetune_bench.` in a wheel."""

PROGRAM = "finetune-bench"
"""The command, as messages and documents name it; in a checkout, `python -m benchmarks` is the same."""

OURS = ("harness", "backends", "results", "benchmarks", "finetune_bench")
"""The names of this project's packages: a missing module of them is a fault of this project."""

PROTOCOL = 1
"""Number of the measuring protocol. Records of different protocols are never compared; CHANGELOG lists the changes."""
