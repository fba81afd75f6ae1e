"""The stable names of this package: `compare`, `gate` and `bisect` ask other revisions for them.

`python -m harness.entry FOLDER` runs the job of a worker (see `process.worker`). A name that is removed or that changes
its arguments makes older revisions incomparable, and `comparing.installations` has to say so.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

RUN_CASE = "harness.entry:run_case"
TAKE_TURNS = "harness.entry:take_turns"
VERSIONS = "harness.entry:versions"

_HOMES = {
    "run_case": "harness.running.run",
    "take_turns": "harness.pairing.turns",
    "versions": "harness.process.machine",
}


def __getattr__(name: str) -> Any:
    """The function of this name, imported when it is called for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


if __name__ == "__main__":
    from harness.process.worker import run_as_program

    run_as_program(sys.argv[1])
