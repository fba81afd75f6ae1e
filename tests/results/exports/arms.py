"""A run that holds nothing but one comparison's arms."""

from __future__ import annotations

from pathlib import Path

from harness.running.record import Record
from results.storage.run_files import open_run
from tests.results.records import MACHINE


def store_arms(folder: Path, one: Record, other: Record) -> None:
    with open_run(folder, command=["compare"], planned=(), machine=MACHINE, environment={}) as run:
        run.append_of_arm(one, "c1", "A")
        run.append_of_arm(other, "c1", "B")
        run.finish()
