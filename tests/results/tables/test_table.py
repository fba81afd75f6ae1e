"""From records to rows that may be read side by side."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pandas as pd
import pytest

import results
from harness.errors import Refused
from harness.running.record import Record
from results.tables.columns import CASE_TYPES
from results.tables.side_by_side import backends, may_compare, side_by_side
from tests.results.records import build
from tests.results.tables.test_load import store


def tabulate(folder: Path, *records: Record, target: float | None = None) -> pd.DataFrame:
    store(folder, *records)
    return results.table(results.load(folder), target)


def test_columns_are_typed_even_where_nothing_was_measured(tmp_path: Path) -> None:
    for folder, record in ((tmp_path / "a", build()), (tmp_path / "b", build(status="skipped", reason="no CUDA"))):
        made = tabulate(folder, record)
        assert {name: str(kind) for name, kind in made.dtypes.items()} == CASE_TYPES
    wanted = ("backend engine model scenario dataset device precision status reason runs throughput epoch_s train_s "
              "accuracy peak_memory_mb throughput_low throughput_high accuracy_low accuracy_high")  # fmt: skip
    assert set(wanted.split()) <= set(made.columns)


def test_medians_of_processes_and_means_of_seeds(tmp_path: Path) -> None:
    seen = [(0, 0.7, 10_000), (1, 0.75, 90_000), (2, 0.8, 20_000)]
    (row,) = tabulate(tmp_path, *(build(seed=s, accuracy=a, step_us=u) for s, a, u in seen)).to_dict("records")
    assert (row["runs"], row["seeds"]) == (3, 3)
    assert row["throughput"] == pytest.approx(16 / 0.02)
    assert (row["throughput_low"], row["throughput_high"]) == pytest.approx((16 / 0.09, 16 / 0.01))
    assert row["accuracy"] == pytest.approx(0.75)
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((0.6258, 0.8742), abs=1e-4)
    assert row["accuracy_mde"] == pytest.approx(0.0378, abs=1e-3)


def test_a_seed_run_twice_is_one_replicate_of_accuracy_and_two_of_time(tmp_path: Path) -> None:
    (row,) = tabulate(tmp_path, build(accuracy=0.7), build(accuracy=0.7)).to_dict("records")
    assert (row["runs"], row["seeds"]) == (2, 1)
    assert pd.isna(row["accuracy_low"])
    assert row["throughput_low"] == row["throughput_high"] == pytest.approx(320)


def test_accuracy_bounds_stay_fractions(tmp_path: Path) -> None:
    (row,) = tabulate(tmp_path, build(accuracy=0.9), build(seed=1, accuracy=1.0)).to_dict("records")
    assert (row["accuracy_low"], row["accuracy_high"]) == (pytest.approx(0.3147, abs=1e-3), 1.0)


def test_two_versions_protocols_machines_or_environments_are_never_pooled_V52(tmp_path: Path) -> None:
    other_machine = msgspec.structs.replace(build(), machine="m2")
    changed = [build(), build(warmup_steps=4), other_machine, build(versions={"torch": "9"})]
    path = store(tmp_path, *changed)
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(2, lines[1].replace(b'"protocol":1', b'"protocol":2'))
    path.write_bytes(b"".join(lines))
    made = results.table(results.load(tmp_path))
    assert made["runs"].tolist() == [1] * 5


def test_what_did_not_work_is_a_row_of_its_own_with_reasons_and_no_figure(tmp_path: Path) -> None:
    made = tabulate(
        tmp_path, build(), build(seed=1, status="failed", reason="it broke"),
        build(seed=2, status="failed", reason="it broke"), build(seed=3, status="failed", reason="again"),
    )  # fmt: skip
    assert made[["status", "runs", "reason"]].to_numpy().tolist() == [["ok", 1, ""], ["failed", 3, "it broke; again"]]
    assert made["throughput"].isna().tolist() == [False, True]


def test_an_interrupted_record_gives_way_to_a_later_one_of_its_case(tmp_path: Path) -> None:
    made = tabulate(tmp_path, build(status="interrupted"), build())
    assert made["status"].tolist() == ["ok"]
    store(tmp_path, build(seed=1, status="interrupted"))
    assert sorted(results.table(results.load(tmp_path))["status"]) == ["interrupted", "ok"]


def test_time_to_accuracy_counts_runs_that_never_get_there(tmp_path: Path) -> None:
    curves = [(0.5, 0.8), (0.8, 0.7), (0.5, 0.6)]
    runs = [build(seed=seed, curve=curve) for seed, curve in enumerate(curves)]
    (row,) = tabulate(tmp_path, *runs, target=0.75).to_dict("records")
    assert (row["time_to_accuracy_s"], row["reached"], row["target"]) == (pytest.approx(2.55), 2, 0.75)
    assert row["time_to_accuracy_s_low"] == pytest.approx(0.55)
    assert pd.isna(row["time_to_accuracy_s_high"])
    (row,) = results.table(results.load(tmp_path), 0.9).to_dict("records")
    assert (pd.isna(row["time_to_accuracy_s"]), row["reached"]) == (True, 0)
    with pytest.raises(Refused, match=r"0\.75 for 75 %"):
        results.table(results.load(tmp_path), 75)


def test_a_mark_of_one_run_stays_on_the_row(tmp_path: Path) -> None:
    (row,) = tabulate(tmp_path, build(stage={"keep": "best"}), build(seed=1, stage={"keep": "best"}, steps=20)).to_dict(
        "records"
    )
    assert row["marks"] == ["short window", "best epoch"]


def test_two_backends_stand_on_one_line_without_a_ratio(tmp_path: Path) -> None:
    keras = {"backend": "keras3", "engine": "tensorflow"}
    made = tabulate(
        tmp_path, build(), build(scenario="scratch"), build(**keras),
        build(model="alexnet"), build(model="alexnet", backbone_parameters=7, **keras),
    )  # fmt: skip
    assert backends(made) == ["pytorch", "keras3-tensorflow"]
    full, scratch, alexnet = side_by_side(made)
    assert set(full.cells) == {"pytorch", "keras3-tensorflow"}
    assert full.ratios == {"keras3-tensorflow": "≠ no certificate"}
    assert scratch.ratios == {}
    assert alexnet.ratios == {"keras3-tensorflow": "≠ different architecture"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataset_sha256": "e" * 64}, "different data"),
        ({"checkpoint_sha256": "e" * 64}, "different checkpoint"),
        ({"idiom": True}, "native defaults"),
        ({"optimizer_rule": "own"}, "native defaults"),
        ({"backbone_parameters": 7}, "different architecture"),
        ({}, "no certificate"),
    ],
)
def test_a_ratio_is_withheld_for_the_first_thing_that_differs(
    change: dict[str, object], reason: str, tmp_path: Path
) -> None:
    made = tabulate(tmp_path, build(), build(backend="keras3", engine="jax", **change)).to_dict("records")
    assert may_compare(*made, "throughput") == reason


def test_idioms_stand_on_one_line_with_the_layout_that_each_ran_in(tmp_path: Path) -> None:
    keras = {"backend": "keras3", "engine": "jax"}
    made = tabulate(tmp_path, build(idiom=True, ran_layout="channels-first"), build(idiom=True, **keras))
    assert made["layout"].tolist() == ["channels-first", "channels-last"]
    (line,) = side_by_side(made)
    assert line.ratios == {"keras3-jax": "≠ native defaults"}
    matched = tabulate(tmp_path / "matched", build(ran_layout="channels-first"), build(**keras))
    assert [set(line.cells) for line in side_by_side(matched)] == [{"pytorch"}, {"keras3-jax"}]


def test_cases_of_one_backend_that_differ_have_a_line_each(tmp_path: Path) -> None:
    made = tabulate(tmp_path, build(), build(warmup_steps=4), build(backend="keras3", engine="jax"))
    assert [sorted(line.cells) for line in side_by_side(made)] == [["keras3-jax", "pytorch"], ["pytorch"]]
