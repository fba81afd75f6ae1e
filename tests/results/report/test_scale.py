"""How large a page is and how soon it is there: for a suite like the default one, and for 10 000 processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from benchmarks.datasets.arrays import ArraySet, prepare_arrays
from harness import PROTOCOL
from harness.data.dataset import open_dataset
from harness.running.record import Quality, Record
from results.report.write import write_report
from results.storage.rows import SCHEMA, EndRow, ProcessRow, RunRow
from results.storage.run_files import open_run
from tests.conftest import coloured
from tests.results.records import MACHINE, build
from tests.results.report.conftest import Open

pytestmark = pytest.mark.timeout(180)
MB = 1_000_000
PROCESSES = 10_000
SCENARIOS = ("scratch", "full", "freeze-conv", "small-lr-conv", "two-stage")
ARMS = (("pytorch", "resnet18"), ("pytorch", "efficientnet-b0"), ("pytorch", "mobilenet"), ("keras3", "mobilenet"))


def cases(steps: int, **more: str) -> Iterator[Record]:
    """As many as the default suite has, with as many steps and epochs."""
    for number, (backend, model) in enumerate(ARMS):
        for place, scenario in enumerate(SCENARIOS):
            curve = tuple(0.3 + 0.04 * place + 0.05 * epoch for epoch in range(9))
            case = {"backend": backend, "model": model, "scenario": scenario, **more}
            yield build(step_us=40_000 + 1000 * number, steps=steps, curve=curve, accuracy=0.5 + 0.04 * place, **case)


def test_a_page_like_that_of_the_default_suite_is_small_and_answers_soon(tmp_path: Path, open_page: Open) -> None:
    classes, images = tuple(f"a class of number {n}" for n in range(8)), 560
    draw = np.random.default_rng(1)
    splits = {name: coloured(name, n, 3) for name, n in (("train", 96), ("val", 80), ("test", images))}
    wide = {
        name: (np.kron(pixels, np.ones((1, 2, 2, 1), np.uint8)), labels) for name, (pixels, labels) in splits.items()
    }
    prepared = prepare_arrays("like-embedded", ArraySet(classes[:3], wide, "test"), cache=tmp_path / "cache")
    with open_run(tmp_path, command=["run"], planned=[], machine=MACHINE, environment={}) as run:
        for record in cases(110, dataset_sha256=prepared.meta.sha256):
            logits = draw.normal(size=(images, 3)).astype(np.float32)
            stored = run.put_arrays({"logits": logits, "labels": wide["test"][1], "ids": np.arange(images)})
            quality = Quality(accuracy=record.test.accuracy, loss=1.0, images=images)
            counts = {"train": 96, "val": images, "test": images}
            run.append(replace(record, logits=stored, classes=classes[:3], test=quality, val=quality, images=counts))
        run.finish()
    write_report(tmp_path, tmp_path / "report.html", lambda sha256: open_dataset(prepared.folder))
    assert (tmp_path / "report.html").stat().st_size < 3 * MB
    page = open_page(tmp_path / "report.html")
    assert page.locator("#predictions ul.gallery").first.locator("img").count() == 24
    assert float(page.locator("html").get_attribute("data-ready")) < 2000


def test_10_000_processes_are_a_page_of_under_10_mb_made_in_under_15_s_and_used(
    tmp_path: Path, open_page: Open
) -> None:
    store(tmp_path)
    # Seconds of this process, not of the clock, on which everything else that runs here shows.
    started = time.process_time()
    write_report(tmp_path, tmp_path / "report.html")
    assert time.process_time() - started < 15
    assert (tmp_path / "report.html").stat().st_size < 10 * MB
    page = open_page(tmp_path / "report.html")
    assert float(page.locator("html").get_attribute("data-ready")) < 2000
    assert "2000 of 10000 processes are drawn, evenly chosen" in page.locator("#figures").inner_text()
    assert page.locator("#figures .mark-symbol path").count() > 2000
    assert "500 runs, 500 seeds" in page.locator("#answer").inner_text()
    page.locator("#filters summary").click()
    page.get_by_label("keras3", exact=True).uncheck()
    page.locator("#filtered", has_text="active: ").wait_for()


def store(folder: Path) -> None:
    """One run of 500 seeds of 20 cases, written in one go: a row at a time would wait 10 000 times for the disk."""
    run, head = "01M8BTMRQTV7YQB86SE2TYEY8K", {"schema": SCHEMA, "protocol": PROTOCOL, "environment": "e"}
    draw = np.random.default_rng(1)
    rows: list[object] = [RunRow(run=run, command=("run",), started="2026-01-02T03:04:05", machine="m", **head)]
    for record in cases(44):
        for seed in range(PROCESSES // 20):
            case = replace(record.case, seed=seed)
            right = round(500 * record.test.accuracy + draw.normal())
            test = replace(record.test, accuracy=right / 500)
            windows = tuple(
                replace(window, seconds=window.seconds * float(draw.normal(1, 0.01)), tail_s=None)
                for window in record.stages[0].windows
            )
            stage = replace(record.stages[0], windows=windows)
            own = replace(record, case=case, key=f"{record.key[:12]}{seed:04}", test=test, stages=(stage,))
            rows.append(ProcessRow(run=run, record=own, **head))
    rows.append(EndRow(schema=SCHEMA, run=run, ended="2026-01-02T04:04:05", status="done"))
    file = folder / "runs" / "m1" / "2026" / "01" / f"{run}.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
