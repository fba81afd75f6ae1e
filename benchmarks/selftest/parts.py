"""The sins shared out to two workers, each on a core of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.selftest.running import Outcome
from harness.launch import Event, launch
from harness.machine import usable_cores

PARTS = 2


def in_parts(seed: int, on_event: Callable[[Event], None]) -> list[Outcome]:
    """Try everything; returns what each part found."""
    with ThreadPoolExecutor(PARTS) as pool:
        asked = [pool.submit(_ask, part, seed, on_event) for part in range(PARTS)]
        return [future.result() for future in asked]


def _ask(part: int, seed: int, on_event: Callable[[Event], None]) -> Outcome:
    cores = usable_cores()
    if hasattr(os, "sched_setaffinity"):  # of this thread alone; its worker inherits it
        os.sched_setaffinity(0, {cores[part % len(cores)]})
    arguments: dict[str, Any] = {"seed": seed, "part": part, "parts": PARTS}
    with tempfile.TemporaryDirectory() as folder:
        call = "benchmarks.selftest.running:run"
        outcome = launch(call, arguments, folder=Path(folder), cores=1, on_event=on_event)
    return msgspec.json.decode(outcome.require(), type=Outcome)
