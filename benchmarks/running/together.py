"""Workers that open their cases at the same time, each on a core of its own, and then train one after the other.

To import a framework, build a network and compile it in the first step takes seconds on one core; throughput and
`train s` contain none of them. A worker that waits sleeps, so training is measured with nothing beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from msgspec.structs import replace

from benchmarks.choosing.selection import TOGETHER
from benchmarks.preparing.plan import PlannedCase
from harness.entry import RUN_CASE
from harness.process.launch import Event, Outcome, Worker
from harness.process.machine import Machine, usable_cores
from harness.spec import Case, WaitAfter

MEMORY_FREE = 4 * 2**30
"""Bytes of free memory below which cases are opened one after the other."""


def groups(plan: Sequence[PlannedCase], machine: Machine) -> Iterator[list[PlannedCase]]:
    """Yield the cases in order, in groups that can be opened together; the group of a case that cannot has one."""
    group: list[PlannedCase] = []
    # From the end, so that the first case begins alone if their number is odd, and its row comes sooner.
    found: list[list[PlannedCase]] = []
    for planned in reversed(plan):
        if group and _joins(planned, machine) and _joins(group[0], machine) and len(group) < TOGETHER:
            group.insert(0, planned)
        else:
            group = [planned]
            found.append(group)
    yield from reversed(found)


def _joins(planned: PlannedCase, machine: Machine) -> bool:
    # On a GPU, the memory of one process is missing for the other.
    cpu = machine.device_kind(planned.case.device) == "cpu"
    alone = planned.case.devices > 1  # its processes keep to cores of their own
    return planned.job is not None and cpu and not alone and len(usable_cores()) >= TOGETHER


@contextmanager
def opened_together(group: Sequence[PlannedCase], timeout_s: float) -> Iterator[list[Worker | None]]:
    """Start a worker for each case and wait until every worker waits or has ended. `train` runs the rest.

    For a single case, or without memory for a second process, each worker is None and no case is started.
    """
    if len(group) == 1 or psutil.virtual_memory().available < MEMORY_FREE:
        yield [None] * len(group)
        return
    with ExitStack() as stack:
        workers, taken = list[Worker](), 0
        jobs = [planned.job for planned in group if planned.job]
        own_cores = sum(job.case.cores for job in jobs) <= len(usable_cores())
        for job in jobs:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finetune-bench-")))
            case = job.case
            worker = Worker(
                RUN_CASE,
                {"job": replace(job, wait_after=_wait_after(case) if own_cores else "opening")},
                folder=folder,
                cores=case.cores,
                engine=case.engine,
                timeout_s=timeout_s,
                beside=taken,
            )
            workers.append(stack.enter_context(worker))
            taken += case.cores
        for worker in workers:
            any("opened" in event for event in worker.events())  # reads events until this one comes
        yield [*workers]


def _wait_after(case: Case) -> WaitAfter:
    # An input pipeline would read ahead while the other case trains; kept features are computed before the first step.
    return "first step" if case.input == "arrays" and case.features == "live" else "opening"


def train(worker: Worker, on_event: Callable[[Event], None]) -> Outcome:
    """Let a worker of `opened_together` train its case, on the cores of measured workers, and return how it ended."""
    worker.join()
    worker.send({})
    for event in worker.events():
        on_event(event)
    return worker.outcome()
