"""How JAX and TensorFlow compile what tests run for milliseconds, and how often their workers collect garbage.

Level 1 compiles as fast as level 0, and convolutions run five times as fast: twelve steps of resnet18 took 10 s of CPU
time instead of 23 s, most of it compilation.
"""

from __future__ import annotations

import gc
import os

from harness.lazy import import_quickly

FLAGS = "--xla_backend_optimization_level=1"


def compile_quickly(engine: str | None) -> None:
    """In this process, before JAX is imported. TensorFlow does not rewrite its graphs: a fifth of a case's CPU time.

    The other tests of TensorFlow leave that on.
    """
    os.environ.setdefault("XLA_FLAGS", FLAGS)
    if engine == "tensorflow":
        tensorflow = import_quickly("tensorflow")
        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def collect_rarely() -> None:
    """In this process: building and tracing networks makes many objects and little garbage."""
    gc.set_threshold(100_000, 50, 100)
