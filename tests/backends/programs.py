"""A test file as a program: it answers for its tests in a process of its own, since an engine is one process's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.quickly import SMALL_NETWORK

PROGRAM = """
import atexit, gc, runpy, sys
gc.set_threshold(100_000, 50, 100)
atexit.register(gc.freeze)
if sys.argv.pop(1) == "keras":
    from backends.keras3 import import_keras
    import_keras()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""It collects garbage rarely, and never while it ends, which takes a second after a framework: building and tracing
networks makes many objects and little garbage."""


def answered(
    file: str, engine: str, *arguments: str, keras: bool = True, timeout_s: float = 280, **variables: str
) -> dict[str, Any]:
    """The JSON in the last line that the program prints; an assertion with its last words if it fails.

    It begins with Keras on the engine unless told otherwise. `variables` are added to its environment.
    """
    environment = {**os.environ, "KERAS_BACKEND": engine, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "XLA_FLAGS": SMALL_NETWORK, **variables}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "keras" if keras else "", file, *arguments], env=environment, timeout=timeout_s,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
