"""The stable names of this package, which `gate` calls in other revisions. See `harness.entry`."""

from __future__ import annotations

from benchmarks.choosing.suites import suite_cases

__all__ = ["SUITE_CASES", "suite_cases"]

SUITE_CASES = "benchmarks.entry:suite_cases"
