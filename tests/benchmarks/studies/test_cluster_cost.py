"""The figures about the cost of a cluster, on a suite without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.running.execute import without_figures
from benchmarks.studies.cluster_cost import SuiteCost, lines, locally, measure, plan
from harness.errors import Refused
from harness.running.record import Record
from results.storage.run_files import RunWriter


def test_a_slot_is_busy_while_a_worker_runs_and_the_rest_is_cost() -> None:
    cost = SuiteCost(slots=2, wall_s=10.0, worker_s=(4.0,) * 4, cpu_s=1.0)
    assert cost.busy == pytest.approx(0.8)
    assert cost.outside_s == pytest.approx(1.0)
    alone = SuiteCost(slots=1, wall_s=5.0, worker_s=(4.0,), cpu_s=0.2)
    first, second, third = lines(cost, SuiteCost(slots=1, wall_s=4.4, worker_s=(4.0,), cpu_s=0.2))
    assert first == (
        "cluster: 4 cases in 10 s on 2 slots; a worker ran 80.0% of the slots' time; a case took 4.00 s in its "
        "worker and 1.000 s outside (0.250 s of CPU time)"
    )
    assert second.startswith("local: 1 case in 4 s on 1 slot; a worker ran 90.9% of the slots' time")
    assert third == "cluster minus local: +0.600 s per case, 1.00% of a case of 60 s"
    assert list(lines(cost, alone))[2] == "cluster minus local: +0.000 s per case, 0.00% of a case of 60 s"


def test_a_local_run_of_trivial_cases_takes_longer_than_its_workers(tmp_path: Path) -> None:
    cost = locally(plan(3, tmp_path), tmp_path)
    assert len(cost.worker_s) == 3
    assert 0 < sum(cost.worker_s) < cost.wall_s
    assert 0 < cost.cpu_s < cost.wall_s


def test_a_case_without_a_result_ends_the_study(tmp_path: Path) -> None:
    planned = plan(1, tmp_path)

    def run(writer: RunWriter) -> list[Record]:
        return [without_figures(planned[0].case, "killed", "killed from outside")]

    with pytest.raises(Refused, match="killed from outside; 1 of 1 cases have no figures"):
        measure(planned, 1, tmp_path / "results", run)
