"""How JAX and TensorFlow compile what tests run for milliseconds, and how often their workers collect garbage.

The convolutions of a real network run faster at level 1 than at level 0: three cases took 24 s of CPU time instead of
42 s. For a network of a few small layers, compilation is what takes long: 9 s instead of 14 s, and 22 s with the
fusion emitters.
"""

from __future__ import annotations

import gc
import os

from harness.lazy import import_quickly

FLAGS = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
SMALL_NETWORK = FLAGS.replace("level=1", "level=0")


def compile_quickly(engine: str | None) -> None:
    """In this process, before JAX is imported. TensorFlow does not rewrite its graphs: a fifth of a case's CPU time.

    The other tests of TensorFlow leave that on.
    """
    os.environ.setdefault("XLA_FLAGS", FLAGS)
    if engine == "tensorflow":
        tensorflow = import_quickly("tensorflow", without=("jax",))
        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def collect_rarely() -> None:
    """In this process: building and tracing networks makes many objects and little garbage."""
    gc.set_threshold(100_000, 50, 100)
