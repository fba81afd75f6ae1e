"""How JAX compiles what tests run for milliseconds: unoptimised, which takes half the time."""

from __future__ import annotations

import os

FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def compile_quickly() -> None:
    """In this process, before JAX is imported."""
    os.environ.setdefault("XLA_FLAGS", FLAGS)
