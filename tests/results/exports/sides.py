"""A run that holds only the two sides of one comparison."""

from __future__ import annotations

from pathlib import Path

from harness.running.record import Record
from results.storage.run_files import open_run
from tests.results.records import MACHINE


def store_sides(folder: Path, one: Record, other: Record) -> None:
    with open_run(folder, command=["compare"], planned=(), machine=MACHINE, environment={}) as run:
        run.append_of_side(one, "c1", "A")
        run.append_of_side(other, "c1", "B")
        run.finish()
