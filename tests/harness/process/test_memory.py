"""Freed memory that is kept: later arrays come from it, so the system gives no new pages, and no number changes."""

from __future__ import annotations

import ctypes
import platform
import resource
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.datasets.writing import PreparedDataset
from harness.errors import Declined
from harness.process import memory
from harness.process.ask import ask
from harness.running import opening, run
from harness.running.evaluate import Evaluator
from harness.running.opening import find_model_for
from harness.running.record import StageRecord
from harness.running.stage import StageRun
from tests.harness.cases import STAGE, run_here, scenario, tiny_case

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
ARRAYS, PAGES = 16, 512
"""Arrays of 2 MB each: NumPy asks for huge pages only above 4 MB, and those make few faults."""


def faults_of_each_round(keep: bool) -> list[int]:
    """Return the page faults of making and freeing the arrays, several times; runs in a worker."""
    if keep:
        memory.keep_freed_memory()
    found = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [np.ones(PAGES * 4096, np.uint8) for _ in range(ARRAYS)]
        del arrays
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return found


@glibc
def test_later_arrays_need_no_new_pages() -> None:
    returned, kept = (ask(faults_of_each_round, {"keep": keep}, list[int], cores=1) for keep in (False, True))
    assert min(returned) > ARRAYS * PAGES / 2
    assert max(kept[1:]) < ARRAYS * PAGES / 10


class _Refusing:
    def __init__(self, _: None) -> None:
        self.mallopt = lambda *_: 0


def test_an_allocator_that_refuses_declines_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", _Refusing)
    with pytest.raises(Declined, match="refuses to keep freed memory; leave out --keep-memory"):
        memory.keep_freed_memory()


def test_another_system_declines_the_case_before_it_begins(
    tiny_dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with pytest.raises(Declined, match="only the allocator of glibc"):
        find_model_for(tiny_case(tiny_dataset, keep_memory=True), ())
    find_model_for(tiny_case(tiny_dataset), ())


@glibc
def test_memory_is_kept_after_the_training_of_every_case_when_nothing_is_timed_any_more(
    tiny_dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    stage, logits = StageRun.run, Evaluator.logits

    def train(*arguments: Any) -> StageRecord:
        record = stage(*arguments)
        happened.append("trained")
        return record

    def evaluate(self: Evaluator, split: str) -> NDArray[np.float32]:
        happened.append(split)
        return logits(self, split)

    monkeypatch.setattr(StageRun, "run", train)
    monkeypatch.setattr(Evaluator, "logits", evaluate)
    monkeypatch.setattr(run, "keep_freed_memory", lambda: happened.append("kept"))
    run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(STAGE, STAGE, start="random")))
    assert happened[happened.index("kept") - 1 : happened.index("kept") + 2] == ["trained", "kept", "test"]
    assert (happened.count("trained"), happened.count("kept")) == (2, 1)


@glibc
def test_a_case_that_keeps_memory_trains_to_the_same_numbers(
    tiny_dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(opening, "keep_freed_memory", lambda: asked.append(True))
    plain = run_here(tiny_dataset, tiny_case(tiny_dataset))
    assert not asked
    kept = run_here(tiny_dataset, tiny_case(tiny_dataset, keep_memory=True))
    assert asked == [True]
    assert kept.stages[0].losses == plain.stages[0].losses
    assert kept.version != plain.version
