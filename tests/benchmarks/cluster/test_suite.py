"""A suite on a pool of nodes that loses what a test tells it to, without any cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.cluster.attempts import Attempt, Node
from benchmarks.cluster.node import NodeJob, Reply, run_work
from benchmarks.cluster.suite import Ended, Lost, execute_on
from benchmarks.datasets.writing import PreparedDataset
from benchmarks.preparing.plan import PlannedCase
from harness.errors import Declined
from harness.process.launch import Event
from harness.process.machine import describe_machine
from harness.running.record import Record
from harness.spec import Job, key
from results.storage.objects import get_arrays, get_json
from results.storage.rows import ProcessRow
from results.storage.run_files import RunWriter, open_run, unfinished
from tests.benchmarks.cluster.test_attempts import A, B
from tests.benchmarks.commanding import rows
from tests.harness.cases import tiny_case

DONE = Reply(ending="skipped", reason="measured elsewhere")
KILLED = Reply(ending="killed", reason="killed from outside (SIGKILL)")
FULL = Reply(ending="killed", reason="the disk is full", broken=True)
GONE = Lost("NodeDiedError: the node is gone")
Result = Reply | Lost | type[KeyboardInterrupt]


class PlayedPool:
    """Nodes whose results are given by place and attempt; other attempts end as `DONE`."""

    def __init__(self, results: dict[tuple[int, int], Result], *nodes: Node) -> None:
        self.nodes: Sequence[Node] = nodes or (A, B)
        self.results, self.running, self.cancelled = results, list[Attempt](), False

    def start(self, attempt: Attempt, timeout_s: float) -> None:
        self.running.append(attempt)

    def wait(self) -> list[Ended]:
        if not self.running:
            return []
        attempt = self.running.pop(0)
        result = self.results.get((attempt.place, attempt.number), DONE)
        if isinstance(result, type):
            raise result
        if result is GONE:
            self.nodes = [node for node in self.nodes if node != attempt.node]
        return [Ended(attempt, result)]

    def retire(self, node: Node, reason: str) -> None:
        self.nodes = [other for other in self.nodes if other != node]

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def plan(tiny_dataset: PreparedDataset) -> list[PlannedCase]:
    cases = [tiny_case(tiny_dataset, seed=seed) for seed in range(4)]
    return [PlannedCase(case, Job(case=case, dataset_path=str(tiny_dataset.folder))) for case in cases]


def opened(results: Path, plan: list[PlannedCase]) -> RunWriter:
    keys = [key(planned.case) for planned in plan]
    return open_run(results, command=("run",), planned=keys, machine=describe_machine(), environment={})


def execute(
    pool: PlayedPool, plan: list[PlannedCase], results: Path, events: list[Event] | None = None
) -> list[Record]:
    seen: list[Event] = [] if events is None else events
    with opened(results, plan) as writer:
        return execute_on(pool, plan, range(len(plan)), writer, describe_machine(), 60, seen.append, patience_s=0)


def stored(results: Path) -> list[tuple[int, str, str, int]]:
    """Seed, status, node and attempt of each row."""
    found = [row for row in rows(results) if isinstance(row, ProcessRow)]
    return [(row.record.case.seed, row.record.status, row.node, row.attempt) for row in found]


def test_every_case_has_a_row_with_its_node_and_the_nodes_machine(plan: list[PlannedCase], tmp_path: Path) -> None:
    events: list[Event] = []
    records = execute(PlayedPool({}), plan, tmp_path, events)
    assert [record.machine for record in records] == [A.machine.key] * 4
    assert stored(tmp_path) == [(seed, "skipped", "a:1" if seed % 2 == 0 else "b:1", 1) for seed in range(4)]
    assert [event["node"] for event in events if "end" in event] == ["a:1", "b:1", "a:1", "b:1"]
    assert get_json(tmp_path, rows(tmp_path)[1].environment) == A.facts.environment  # type: ignore[union-attr]


@pytest.mark.parametrize("fault", [GONE, KILLED, FULL], ids=["lost node", "killed worker", "full disk"])
def test_a_lost_attempt_is_a_row_and_the_case_runs_once_more_elsewhere(
    fault: Result, plan: list[PlannedCase], tmp_path: Path
) -> None:
    execute(PlayedPool({(1, 1): fault}), plan, tmp_path)
    found = stored(tmp_path)
    assert (1, "killed", "b:1", 1) in found
    assert (1, "skipped", "a:1", 2) in found
    assert sorted(seed for seed, status, *_ in found if status == "skipped") == [0, 1, 2, 3]
    assert len(found) == 5
    (reason,) = [
        row.record.reason for row in rows(tmp_path) if isinstance(row, ProcessRow) and row.record.reason[0] == "a"
    ]
    assert reason.startswith("attempt 1 of 2 on node b:1: ")


def test_after_a_full_disk_nothing_more_runs_on_that_node(plan: list[PlannedCase], tmp_path: Path) -> None:
    execute(PlayedPool({(1, 1): FULL}), plan, tmp_path)
    assert [node for _, _, node, _ in stored(tmp_path)].count("b:1") == 1


def test_a_case_that_is_lost_twice_is_not_started_again(plan: list[PlannedCase], tmp_path: Path) -> None:
    execute(PlayedPool({(0, 1): KILLED, (0, 2): KILLED}), plan, tmp_path)
    assert [row for row in stored(tmp_path) if row[0] == 0] == [(0, "killed", "a:1", 1), (0, "killed", "b:1", 2)]
    assert unfinished(tmp_path) is not None
    assert len(unfinished(tmp_path).done) == 4  # type: ignore[union-attr]


def test_without_a_node_the_rest_is_left_to_resume_which_runs_the_lost_case_too(
    plan: list[PlannedCase], tmp_path: Path
) -> None:
    with pytest.raises(Declined, match="no node can run the 4 cases without a result"):
        execute(PlayedPool({(0, 1): GONE}, A), plan, tmp_path)
    assert stored(tmp_path) == [(0, "killed", "a:1", 1)]
    left = unfinished(tmp_path)
    assert left is not None
    assert left.done == frozenset()


def test_ctrl_c_stores_what_runs_as_interrupted_and_ends_it(plan: list[PlannedCase], tmp_path: Path) -> None:
    pool = PlayedPool({(1, 1): KeyboardInterrupt})
    with pytest.raises(KeyboardInterrupt):
        execute(pool, plan, tmp_path)
    assert pool.cancelled
    assert sorted(stored(tmp_path)) == [
        (0, "skipped", "a:1", 1), (1, "interrupted", "b:1", 1), (2, "interrupted", "a:1", 1)]  # fmt: skip
    left = unfinished(tmp_path)
    assert left is not None
    assert left.done == {key(plan[0].case)}


def test_a_skipped_case_is_a_row_of_the_driver(plan: list[PlannedCase], tmp_path: Path) -> None:
    records = execute(PlayedPool({}), [PlannedCase(plan[0].case, None, "no checkpoint"), plan[1]], tmp_path)
    assert stored(tmp_path) == [(0, "skipped", "", 0), (1, "skipped", "a:1", 1)]
    assert (records[0].reason, records[0].machine) == ("no checkpoint", describe_machine().key)


def test_what_a_node_measured_is_judged_and_stored_with_its_logits_as_in_a_local_run(
    plan: list[PlannedCase], tmp_path: Path
) -> None:
    work = NodeJob(job=plan[0].required_job(), timeout_s=60, parcels={})
    measured = run_work(work, lambda sha256: b"")
    (record,) = execute(PlayedPool({(0, 1): measured}), plan[:1], tmp_path)
    assert record.status == "ok", record.reason
    assert record.logits is not None
    assert set(get_arrays(tmp_path, record.logits)) == {"logits", "labels", "ids"}


def test_a_failed_case_is_not_started_again_and_keeps_its_log(plan: list[PlannedCase], tmp_path: Path) -> None:
    failed = Reply(ending="failed", reason="ValueError: no", files={"log.txt": b"Traceback"})
    (record,) = execute(PlayedPool({(0, 1): failed}), plan[:1], tmp_path)
    assert (record.status, record.reason) == ("failed", "ValueError: no")
    assert Path(record.artefacts["log"]).read_bytes() == b"Traceback"
