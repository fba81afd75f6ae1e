"""What runs below a process, and the table of nodes, without any cluster."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from benchmarks.cluster.node import describe_node
from benchmarks.cluster.overview import ClusterNode, NodeStatus, RunningCase, running_cases, table
from benchmarks.datasets.writing import PreparedDataset
from harness.entry import RUN_CASE, VERSIONS
from harness.process.launch import Worker
from harness.spec import Job
from tests.harness.cases import STAGE, scenario, tiny_case

FACTS = describe_node()
STARTED = datetime(2026, 11, 29, 14, 3, 12, tzinfo=UTC)


def running(name: str) -> RunningCase:
    return RunningCase(case=name, since=STARTED, seconds=11.6)


def node(*cases: RunningCase, **fields: object) -> ClusterNode:
    facts = {"address": "10.0.0.7:1", "slots": 1, "gpus": 0, "labels": {"gpu": "h100"}, **fields}
    return ClusterNode(status=NodeStatus(facts=FACTS, running=cases), **facts)  # type: ignore[arg-type]


def test_a_case_that_runs_below_a_process_has_its_label_and_its_start(
    tiny_dataset: PreparedDataset, tmp_path: Path
) -> None:
    long = tiny_case(tiny_dataset, scenario=scenario(replace(STAGE, epochs=10_000), start="random"))
    job = Job(case=long, dataset_path=str(tiny_dataset.folder))
    before = datetime.now(UTC)
    assert list(running_cases(os.getpid())) == []
    with Worker(RUN_CASE, {"job": job}, folder=tmp_path, cores=1) as worker:
        until = time.monotonic() + 10
        while not (found := list(running_cases(os.getpid()))) and time.monotonic() < until:
            time.sleep(0.01)  # a process has no command line yet in the moment of its start
        (one,) = found
        assert one.case == job.case.label
        assert before <= one.since <= datetime.now(UTC)
        assert 0 <= one.seconds < 60
        assert list(running_cases(worker.pid)) == []  # it is that process itself, which is another node's
    assert list(running_cases(os.getpid())) == []


def test_a_worker_that_measures_no_case_is_not_listed(tmp_path: Path) -> None:
    with Worker(VERSIONS, {"distributions": []}, folder=tmp_path):
        assert list(running_cases(os.getpid())) == []


def test_a_node_has_a_row_with_its_versions_and_one_more_for_each_further_case() -> None:
    heading, busy, more, idle = table([node(running("a/x/full/seed0"), running("b/x/full/seed0")), node(slots=0)])
    assert len({len(heading), len(busy), len(more), len(idle)}) == 1
    cells = dict(zip(heading, busy, strict=True))
    assert cells["node"] == "10.0.0.7:1" and cells["slots"] == "1" and cells["labels"] == "gpu=h100"
    assert cells["sources"] == FACTS.installation.sources[:8]
    assert cells["versions"].startswith(f"python {FACTS.installation.packages['python']}")
    assert busy[-3:] == ("a/x/full/seed0", "14:03:12", "12")
    assert more == ("",) * 7 + ("b/x/full/seed0", "14:03:12", "12")
    assert idle[1] == "0" and idle[-3:] == ("–", "–", "–")


def test_a_node_without_an_answer_keeps_its_row() -> None:
    silent = ClusterNode(address="10.0.0.8:1", slots=1, gpus=2, labels={}, status=None, problem="gave no answer")
    _, row = table([silent])
    assert row == ("10.0.0.8:1", "1", "–", "2", "–", "–", "–", "–", "–", "–")
