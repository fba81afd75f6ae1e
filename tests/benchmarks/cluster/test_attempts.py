"""Slots, lost attempts and new ones, without any cluster."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from benchmarks.cluster.attempts import Attempt, Attempts, Node
from benchmarks.cluster.node import describe_node
from benchmarks.preparing.plan import PlannedCase
from harness.process.machine import Machine
from harness.spec import Case, Job
from results.storage.rows import ATTEMPTS
from tests.harness.cases import scenario

MACHINE = Machine(cpu="x", cores=8, memory_gib=16, gpus=(), architecture="y")
FACTS = describe_node()


def node(name: str, gpus: int = 0, cores: int = 8) -> Node:
    machine = replace(MACHINE, cores=cores, gpus=("a GPU",) * gpus)
    return Node(name, f"{name}:1", gpus, replace(FACTS, machine=machine))


def planned(seed: int = 0, **fields: Any) -> PlannedCase:
    case = Case(
        backend="reference", model="tiny-cnn", scenario=scenario(), dataset="d", dataset_sha256="0", image_size=32,
        seed=seed, **fields,
    )  # fmt: skip
    return PlannedCase(case, Job(case=case, dataset_path="/data"))


def begun(attempts: Attempts, *nodes: Node) -> list[tuple[str, int, int]]:
    """Node, place and number of each attempt that begins now."""
    return [(one.node.id, one.place, one.number) for one in attempts.begin(nodes)]


def of(plan: list[PlannedCase], together: list[Any] | None = None) -> Attempts:
    return Attempts(plan, together or list(range(len(plan))))


A, B = node("a"), node("b")


def test_a_node_has_one_case_at_a_time_and_the_order_is_that_of_the_plan() -> None:
    attempts = of([planned(seed) for seed in range(4)])
    assert begun(attempts, A, B) == [("a", 0, 1), ("b", 1, 1)]
    assert begun(attempts, A, B) == []
    attempts.end(attempts.running[1])
    assert begun(attempts, A, B) == [("b", 2, 1)]
    assert attempts.waiting == 1


def test_a_lost_attempt_begins_once_more_on_another_node_and_first() -> None:
    attempts = of([planned(seed) for seed in range(3)])
    begun(attempts, A, B)
    attempts.lose(attempts.running[0])
    assert begun(attempts, A, B) == [("a", 2, 1)]  # not its old node
    attempts.end(attempts.running[1])
    assert begun(attempts, A, B) == [("b", 0, 2)]
    attempts.lose(attempts.running[1])
    assert (begun(attempts, A, B), attempts.waiting) == ([], 0)


def test_the_only_node_left_takes_the_new_attempt_too() -> None:
    attempts = of([planned()])
    begun(attempts, A)
    attempts.lose(attempts.running[0])
    assert begun(attempts, A) == [("a", 0, 2)]


def test_a_case_that_had_not_begun_loses_no_attempt() -> None:
    attempts = of([planned()])
    for _ in range(5):
        assert begun(attempts, A) == [("a", 0, 1)]
        attempts.lose(attempts.running[0], begun=False)
    assert attempts.waiting == 1


def test_a_case_without_a_job_does_not_wait() -> None:
    assert of([PlannedCase(planned().case, None, "no checkpoint")]).waiting == 0


def test_gpu_cases_share_a_node_by_gpus_and_cores_and_never_with_a_cpu_case() -> None:
    gpu, cpu = {"device": "cuda", "threads": 3}, {"threads": 1}
    attempts = of([planned(0, **gpu), planned(1, **gpu), planned(2, **gpu), planned(3, **cpu)])
    big = node("big", gpus=4)
    assert begun(attempts, A, big) == [("a", 3, 1), ("big", 0, 1), ("big", 1, 1)]  # the cores are enough for two
    assert [one.beside for one in attempts.running if one.needs_gpu] == [0, 3]
    attempts.end(attempts.running[1])
    assert [one.beside for one in attempts.begin([A, big])] == [0]


def test_a_gpu_case_goes_to_any_node_if_none_has_a_gpu_and_auto_takes_what_there_is() -> None:
    assert begun(of([planned(device="cuda")]), A) == [("a", 0, 1)]
    attempts = of([planned(0, device="auto"), planned(1, device="auto")])
    begun(attempts, A, node("big", gpus=1))
    assert [one.needs_gpu for one in attempts.running] == [False, True]


def test_cases_to_compare_run_on_machines_of_one_key_as_long_as_there_is_one() -> None:
    small = node("small", cores=4)
    attempts = of([planned(0), planned(1), planned(2)], ["x", "x", "x"])
    assert begun(attempts, A, small) == [("a", 0, 1)]
    assert begun(attempts, A, small, B) == [("b", 1, 1)]
    assert begun(attempts, small) == [("small", 2, 1)]


@given(st.data())
def test_whatever_is_lost_every_case_ends_once_or_loses_each_of_its_attempts(data: st.DataObject) -> None:
    attempts = of([planned(seed) for seed in range(6)])
    ended: list[int] = []
    lost: list[Attempt] = []
    while attempts.waiting or attempts.running:
        list(attempts.begin([A, B]))
        attempt = data.draw(st.sampled_from(attempts.running))
        if data.draw(st.booleans()):
            attempts.end(attempt)
            ended.append(attempt.place)
        else:
            attempts.lose(attempt)
            lost.append(attempt)
    assert len(ended) == len(set(ended))
    for place in set(range(6)) - set(ended):
        assert [one.number for one in lost if one.place == place] == list(range(1, ATTEMPTS + 1))
