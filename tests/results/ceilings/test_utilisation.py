"""MFU from planted ceilings and records, and what is said where there is none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import results
from harness.errors import Refused
from harness.running.record import FeaturesRecord, Record, Sensors
from results.ceilings.stored import read_ceilings, write_ceiling
from results.ceilings.utilisation import TOO_LOW, WITHOUT_CORE, reached, shortfalls
from results.storage.merge import merge
from results.tables.render import render
from results.tables.sheet import NO_CEILING, Style
from tests.harness.ceiling.test_ceiling import BATCH, make_ceiling
from tests.results.records import build, joined
from tests.results.tables.test_load import store

SLOW = 10.0
"""Seconds of a training for each second of its arithmetic at the ceiling."""


def record(seconds_of_image: float, **fields: Any) -> Record:
    """A record whose steps take `SLOW` times as long as so many seconds for each image of their batch."""
    made = build(step_us=round(seconds_of_image * BATCH * SLOW * 1e6), **fields)
    assert {window.images / window.steps for window in made.stages[0].windows} == {BATCH}
    return made


def mfu_of(folder: Path, *records: Record) -> list[float]:
    store(folder, *records)
    return [float(value) for value in results.load(folder)["mfu"]]


@pytest.mark.parametrize("frozen", ["none", 1, "backbone"])
def test_mfu_is_the_time_at_the_ceiling_over_the_measured_time(tmp_path: Path, frozen: Any) -> None:
    ceiling = make_ceiling()
    write_ceiling(tmp_path, ceiling)
    cost = ceiling.step(frozen)
    one = record(cost.seconds, stage={"frozen": frozen})
    (found,) = mfu_of(tmp_path, one)
    assert found == pytest.approx(1 / SLOW, rel=1e-3)
    throughput = results.load(tmp_path)["throughput"][0]
    assert found == pytest.approx(cost.flops * throughput / (cost.flops / cost.seconds))


def test_two_stages_count_by_their_images(tmp_path: Path) -> None:
    ceiling = make_ceiling()
    write_ceiling(tmp_path, ceiling)
    first = record(ceiling.step("backbone").seconds, stage={"frozen": "backbone"})
    assert mfu_of(tmp_path, joined(first, record(ceiling.step().seconds)))[0] == pytest.approx(1 / SLOW, rel=1e-3)


def test_layers_before_kept_features_count_for_nothing_and_the_figure_is_marked(tmp_path: Path) -> None:
    ceiling = make_ceiling()
    write_ceiling(tmp_path, ceiling)
    live = record(ceiling.step("backbone", "backbone").seconds, stage={"frozen": "backbone"}, features="kept")
    kept = FeaturesRecord(part="backbone", views=1, reused=0, seconds=1.0, size_bytes=1, views_of_epoch=(1, 0))
    assert mfu_of(tmp_path, replace(live, stages=(replace(live.stages[0], features=kept),))) == [
        pytest.approx(1 / SLOW, rel=1e-3)
    ]
    assert "~10.0" in wide(tmp_path)


def test_the_fastest_of_several_ceilings_counts_whichever_backend_measured_it(tmp_path: Path) -> None:
    fast = make_ceiling(backend="reference", made="2025-01-01")
    slow = [replace(layer, seconds={one: 3 * s for one, s in layer.seconds.items()}) for layer in fast.layers]
    for one in (make_ceiling(layers=tuple(slow)), fast):
        write_ceiling(tmp_path, one)
    assert mfu_of(tmp_path, record(fast.step().seconds))[0] == pytest.approx(1 / SLOW, rel=1e-3)


OTHERS = [
    {"machine": "m2"}, {"model": "resnet34"}, {"image_size": 224}, {"precision": "bf16"}, {"threads": 2},
    {"batch_size": 8}, {"device": "cuda"}, {"head": "mlp"}, {"idiom": True},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_a_ceiling_of_something_else_gives_no_mfu_and_the_table_says_what_to_do(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    write_ceiling(tmp_path, make_ceiling(**other))
    (found,) = mfu_of(tmp_path, record(1.0))
    assert math.isnan(found)
    assert NO_CEILING in wide(tmp_path)


def wide(folder: Path) -> str:
    rows = results.table(results.load(folder))
    return render(rows, "text", style=Style(wide=True), width=400, colour=False).decode()


def test_with_a_ceiling_the_table_has_the_figure_and_not_the_advice(tmp_path: Path) -> None:
    write_ceiling(tmp_path, make_ceiling())
    mfu_of(tmp_path, record(make_ceiling().step().seconds))
    assert NO_CEILING not in wide(tmp_path)
    assert "  10.0  " in wide(tmp_path)


def test_where_mfu_is_low_every_part_of_the_time_is_named_and_the_shares_are_whole(tmp_path: Path) -> None:
    ceiling = make_ceiling()
    write_ceiling(tmp_path, ceiling)
    store(tmp_path, record(ceiling.step().seconds))
    (sentence,) = shortfalls(results.load(tmp_path), read_ceilings(tmp_path))
    norm = 50 / 49 / SLOW
    assert sentence == (
        "MFU of full, resnet18 with pytorch: "
        f"Norm {norm:.0%}; convolutions and products 10%; the rest {1 - norm - 0.1:.0%} "
        "(layers slower than alone, sums, loss, optimizer, frozen layers without products, framework)"
    )


def test_threads_without_a_core_are_a_part_of_their_own(tmp_path: Path) -> None:
    ceiling = make_ceiling()
    write_ceiling(tmp_path, ceiling)
    sensors = Sensors(cpu_over_wall=0.7, involuntary_switches=0, voluntary_switches=0)
    store(tmp_path, replace(record(ceiling.step().seconds), sensors=sensors))
    (sentence,) = shortfalls(results.load(tmp_path), read_ceilings(tmp_path))
    assert f"; {WITHOUT_CORE} 30%; the rest 50%" in sentence


def test_parts_that_are_more_than_the_whole_time_show_a_ceiling_that_is_too_low(tmp_path: Path) -> None:
    ceiling = make_ceiling()
    write_ceiling(tmp_path, ceiling)
    sensors = Sensors(cpu_over_wall=0.1, involuntary_switches=0, voluntary_switches=0)
    store(tmp_path, replace(record(ceiling.step().seconds), sensors=sensors))
    (sentence,) = shortfalls(results.load(tmp_path), read_ceilings(tmp_path))
    assert sentence.endswith(TOO_LOW)


def test_where_mfu_is_high_nothing_is_named(tmp_path: Path) -> None:
    ceiling = make_ceiling()
    write_ceiling(tmp_path, ceiling)
    store(tmp_path, record(ceiling.step().seconds / SLOW / 0.7))
    assert list(shortfalls(results.load(tmp_path), read_ceilings(tmp_path))) == []


def test_a_case_reaches_its_flops_by_its_time_and_its_bytes(tmp_path: Path) -> None:
    layers = tuple(replace(layer, tensor_bytes=100 * (1 + place)) for place, layer in enumerate(make_ceiling().layers))
    ceiling = make_ceiling(layers=layers)
    write_ceiling(tmp_path, ceiling)
    store(tmp_path, record(ceiling.step().seconds), record(ceiling.step().seconds / 2, seed=1))
    (found,) = reached(results.load(tmp_path), read_ceilings(tmp_path))
    assert found.name == "full with pytorch"
    assert found.rate == pytest.approx(2 * ceiling.flops_per_second / SLOW, rel=1e-3)  # of the faster process
    assert found.intensity == pytest.approx(ceiling.step().flops * BATCH / (2 * 100 + 3 * 300 + 3 * 400))


def test_a_case_whose_stages_have_two_ceilings_is_at_none_of_them(tmp_path: Path) -> None:
    layers = tuple(replace(layer, tensor_bytes=100) for layer in make_ceiling().layers)
    for batch in (BATCH, 2 * BATCH):
        write_ceiling(tmp_path, make_ceiling(layers=layers, batch_size=batch))
    one = record(make_ceiling().step().seconds)
    two = build(step_us=10_000, stage={"batch_size": 2 * BATCH})
    store(tmp_path, joined(one, two))
    assert results.load(tmp_path)["mfu"].notna().all()
    assert list(reached(results.load(tmp_path), read_ceilings(tmp_path))) == []


def test_a_ceiling_is_stored_once_and_merged(tmp_path: Path) -> None:
    one, into = tmp_path / "one", tmp_path / "into"
    assert write_ceiling(one, make_ceiling()) == write_ceiling(one, make_ceiling())
    write_ceiling(one, make_ceiling(backend="reference"))
    store(one, build())
    merge(into, [one])
    assert len(read_ceilings(into)) == 2
    assert read_ceilings(into) == read_ceilings(one)


def test_a_file_that_is_no_ceiling_is_refused_by_its_name(tmp_path: Path) -> None:
    path = write_ceiling(tmp_path, make_ceiling())
    path.write_text("{}")
    with pytest.raises(Refused, match=rf"{path.name} is not a ceiling .* run `doctor --ceiling` again"):
        read_ceilings(tmp_path)


def test_a_run_in_a_folder_of_runs_finds_the_ceilings_of_its_results_folder(tmp_path: Path) -> None:
    write_ceiling(tmp_path, make_ceiling())
    path = store(tmp_path, record(make_ceiling().step().seconds))
    for place in (path, path.parent, tmp_path / "runs"):
        assert results.load(place)["mfu"].notna().all()
