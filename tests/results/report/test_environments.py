"""The table of machines in the report."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from results.report.environments import environments
from results.report.page_data import gather
from results.storage.run_files import open_run
from tests.results.records import MACHINE, build


def test_the_machines_of_a_cluster_are_listed_with_their_keys(tmp_path: Path) -> None:
    node = replace(MACHINE, cpu="another processor")
    with open_run(
        tmp_path, command=("run",), planned=(), machine=MACHINE, environment={}, nodes=[node, MACHINE, node]
    ) as run:
        run.append(replace(build(), machine=node.key), node="10.0.0.7:1", attempt=1)
        run.finish()
    machines = next(environments(gather(tmp_path)))
    assert [(row.cells[0], row.cells[1]) for row in machines.rows] == [
        (MACHINE.key, MACHINE.cpu), (node.key, "another processor")]  # fmt: skip
