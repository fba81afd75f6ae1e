"""Tables are followed back to the rows they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from msgspec.structs import replace

import results
from harness.running.record import Record
from results.rules.table_rules import unfollowed
from tests.results.records import build, joined
from tests.results.tables.test_load import store


def three() -> list[Record]:
    return [build(seed=seed, accuracy=0.7 + 0.02 * seed, step_us=50_000 + 3_000 * seed) for seed in range(3)]


def followed(folder: Path, *records: Record, **changes: Any) -> list[str]:
    store(folder, *records)
    frame = results.load(folder)
    table = results.table(frame).assign(**changes)
    return [f"{breach.text} ({breach.rule})" for breach in unfollowed(table, frame)]


def test_honest_tables_are_followed_to_the_last_figure(tmp_path: Path) -> None:
    skipped = build(scenario="scratch", status="skipped", reason="no CUDA")
    void = build(scenario="void", compile_events=1)
    again = build(seed=2, accuracy=0.9, step_us=51_000)
    assert followed(tmp_path, *three(), again, skipped, void, build(warmup_steps=4, status="failed", reason="no")) == []


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"accuracy": 0.74}, ["the accuracy is 0.7400, but the mean over seeds is 0.7200 (V46)"]),
        ({"seeds": 2}, ["the accuracy is of 2 seeds, but the records have 3 (V46)"]),
        (
            {"throughput_high": 400.0},
            ["the range of images/s ends at 400, which is not the throughput of any process (V48)"],
        ),
        ({"runs": 2}, ["2 runs, but there are 3 records (V50)"]),
        ({"train_s": 4.0}, ["4 s of training, but the median without compilation is 2.553 s (V34)"]),
        ({"throughput": 303.1}, ["303.1 images/s, but the median of images ÷ seconds is 301.887 (V51)"]),
        ({"runs": 4}, ["4 runs are pooled, but only 3 have the row's protocol, version and machine (V52)"]),
    ],
)
def test_a_figure_that_cannot_be_followed_is_said(
    tmp_path: Path, changes: dict[str, Any], sentences: list[str]
) -> None:
    assert followed(tmp_path, *three(), **changes) == sentences


def test_the_first_step_of_every_stage_is_followed(tmp_path: Path) -> None:
    both = [joined(build(seed=seed, step_us=10_000), build(seed=seed, step_us=90_000)) for seed in range(2)]
    assert followed(tmp_path, *both) == []
    assert followed(tmp_path, train_s=8.0) == ["8 s of training, but the median without compilation is 5.1 s (V34)"]


def test_V52_two_cases_under_one_version_are_found(tmp_path: Path) -> None:
    one, two, third = three()
    relabelled = replace(third, case=replace(third.case, augment=(), dropout=False))
    assert followed(tmp_path, one, two, relabelled) == ["2 different cases are pooled (V52)"]


def test_rows_of_other_versions_machines_and_environments_are_not_mixed_up(tmp_path: Path) -> None:
    others = [build(warmup_steps=4), replace(build(), machine="m2"), build(versions={"torch": "9"})]
    assert followed(tmp_path, build(), *others) == []


def test_the_table_prints_what_cannot_be_followed_and_ends_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    from benchmarks.commands.reading.table import print_table

    store(tmp_path, *three())
    assert print_table(tmp_path, tmp_path, None) == 0
    honest = results.table

    def dishonest(frame: pd.DataFrame, target: float | None = None) -> pd.DataFrame:
        made = honest(frame, target).assign(throughput=1000.0)
        made.attrs.update(frame.attrs)
        return made

    monkeypatch.setattr("results.tables.tabulate.table", dishonest)
    assert print_table(tmp_path, tmp_path, None) == 1
    assert "1000 images/s, but the median" in capsysbinary.readouterr().out.decode()
