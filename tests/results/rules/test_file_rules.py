"""Rules over a record and the files it was made from, on a real run of the reference backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from benchmarks.datasets.writing import PreparedDataset
from harness.data.dataset import open_dataset
from harness.rules import Rule, ask
from harness.running.record import Record
from results.rules.file_rules import FILE_RULES, Files
from tests.harness.cases import run_here, tiny_case


@pytest.fixture(scope="module")
def ran(tiny_dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Files]:
    folder = tmp_path_factory.mktemp("ran")
    record = run_here(tiny_dataset, tiny_case(tiny_dataset, limit=47), folder)
    with np.load(folder / "logits.npz") as arrays:
        return record, Files(dataset=open_dataset(tiny_dataset.folder, 47), **arrays)


def file_breaches(record: Record, files: Files) -> list[str]:
    return [str(breach) for breach in ask(FILE_RULES, record, files)]


def stage(record: Record, **changes: Any) -> Record:
    return replace(record, stages=(replace(record.stages[0], **changes),))


def test_an_honest_run_breaks_no_rule(ran: tuple[Record, Files]) -> None:
    record, files = ran
    assert file_breaches(record, files) == []
    assert file_breaches(replace(record, stages=()), files) == []


def test_V23_quality_follows_from_the_logits(ran: tuple[Record, Files]) -> None:
    record, files = ran
    assert record.test is not None
    off = replace(record, test=replace(record.test, loss=record.test.loss * 1.0001, accuracy=0.123))
    loss, accuracy = file_breaches(off, files)
    assert loss.startswith("V23: the test loss is ")
    assert accuracy.startswith("V23: the test accuracy is 0.1230, but the logits give ")


def test_V24_the_order_is_the_one_of_the_seed_but_for_native_pipelines(ran: tuple[Record, Files]) -> None:
    record, files = ran
    other = replace(record, case=replace(record.case, seed=1))
    assert [said[:3] for said in file_breaches(other, files)] == ["V24", "V27"]
    native = replace(other, case=replace(other.case, input="native"))
    assert file_breaches(native, files) == []


def test_V27_labels_are_the_datasets_in_training_and_in_the_test(ran: tuple[Record, Files]) -> None:
    record, files = ran
    (said,) = file_breaches(stage(record, labels_sha256="0" * 64), files)
    assert said == "V27: stage 1: training images had wrong labels"
    assert file_breaches(stage(record, labels_sha256=None), files) == []
    labels = files.labels.copy()
    labels[3] = (labels[3] + 1) % 3
    said = next(said for said in file_breaches(record, files._replace(labels=labels)) if said.startswith("V27"))
    assert said == f"V27: test image {files.ids[3]} was evaluated with a wrong label"


@pytest.mark.parametrize("what", ["the last", "one twice"])
def test_V29_every_test_image_has_its_logits_once(ran: tuple[Record, Files], what: str) -> None:
    record, files = ran
    kept = np.arange(len(files.ids) - 1) if what == "the last" else np.array([0, *range(len(files.ids) - 1)])
    fewer = Files(files.dataset, files.logits[kept], files.labels[kept], files.ids[kept])
    said = next(said for said in file_breaches(record, fewer) if said.startswith("V29"))
    twice = 0 if what == "the last" else 1
    assert said == f"V29: {len(kept)} logits for 24 test images: 1 have none, {twice} have two"


def test_a_breach_fails_the_case_that_is_executed(
    tiny_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.preparing.plan import PlannedCase
    from benchmarks.running.execute import execute
    from harness.spec import Job
    from results.storage.run_files import open_run
    from tests.results.records import MACHINE

    case = tiny_case(tiny_dataset)
    job = Job(case=case, dataset_path=str(tiny_dataset.folder))
    planted = Rule("V27", "", "files", lambda record, files: ["planted"])
    monkeypatch.setattr("benchmarks.running.execute.FILE_RULES", (planted,))
    with open_run(tmp_path, command=[], planned=[], machine=MACHINE, environment={}) as writer:
        (record,) = execute([PlannedCase(case, job)], writer, MACHINE, 60, lambda event: None)
    assert (record.status, record.reason) == ("failed", "V27: planted")
    assert record.logits is not None
