"""The stable names of this package, which `compare`, `gate` and `bisect` call in other revisions.

`python -m harness.entry FOLDER` runs the job of a worker (see `process.worker`). If a name is removed or changes its
arguments, older revisions become incomparable, and `comparing.installations` must reject them.
"""

from __future__ import annotations

import sys

from harness.lazy import lazy_names

RUN_CASE = "harness.entry:run_case"
TAKE_TURNS = "harness.entry:take_turns"
VERSIONS = "harness.entry:versions"

_HOMES = {
    "run_case": f"{__package__}.running.run",
    "take_turns": f"{__package__}.pairing.turns",
    "versions": f"{__package__}.process.machine",
}
__getattr__ = lazy_names(__name__, _HOMES)


if __name__ == "__main__":
    from harness.process.worker import run_as_program

    run_as_program(sys.argv[1])
