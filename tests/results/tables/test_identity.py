"""One identity decides what is pooled: rows that differ in any of its fields never meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from msgspec.structs import replace

import results
from harness.running.record import Record
from harness.spec import SETTINGS, Augmentation, key, version
from results.tables.identity import WHOLE, alike, races
from results.tables.side_by_side import side_by_side
from results.tables.tabulate import GROUP
from results.tables.time_to_accuracy import leads, sentences
from results.verdicts.history import history
from tests.harness.settings import another
from tests.results.records import build
from tests.results.tables.test_load import store

FAST, SLOW = (0.6, 0.7, 0.7, 0.7), (0.3, 0.4, 0.65, 0.8)
CASES: dict[str, dict[str, Any]] = {
    "backend": {"backend": "reference"},
    "engine": {"backend": "keras3", "engine": "jax"},
    "model": {"model": "resnet34"},
    "dataset": {"dataset": "photos"},
    "data": {"dataset_sha256": "e" * 64},
    "how it augments": {"augment": (Augmentation(name="crop", parameters={"scale": 0.5}),)},
    "checkpoint": {"checkpoint": "another"},
    "packages": {"versions": {"python": "3.12", "pytorch": "9"}},
    "epochs": {"more": 2},
    "learning rate": {"stage": {"weight_decay": 0.5}},
    **{name: {name: another(name)} for name, one in SETTINGS.items() if one.role == "setting" and name != "device"},
}


def two(scenario: str, curve: tuple[float, ...], seeds: tuple[int, int], more: int = 0, **changes: Any) -> list[Record]:
    return [build(scenario=scenario, curve=curve + curve[-1:] * more, seed=seed, **changes) for seed in seeds]


def halves(**changes: Any) -> list[Record]:
    """A seed of each scenario as it is, and one of each with the changes: a race only for who pools them."""
    own = [*two("freeze-conv", FAST, (0, 0))[:1], *two("two-stage", SLOW, (0, 0))[:1]]
    return [*own, *two("freeze-conv", FAST, (1, 1), **changes)[:1], *two("two-stage", SLOW, (1, 1), **changes)[:1]]


def loaded(folder: Path, records: list[Record]) -> pd.DataFrame:
    store(folder, *records)
    return results.load(folder)


def test_without_a_difference_the_halves_are_a_race(tmp_path: Path) -> None:
    assert len(list(sentences(loaded(tmp_path, halves())))) == 1


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_cases_that_differ_are_never_pooled(changes: dict[str, Any], tmp_path: Path) -> None:
    frame = loaded(tmp_path, halves(**changes))
    assert results.table(frame)["runs"].tolist() == [1, 1, 1, 1]
    assert list(sentences(frame)) == []
    counted = [point.processes for one in history(frame) for segment in one.segments for point in segment.points]
    assert set(counted) == {1}


@pytest.mark.parametrize("field", [name for name in WHOLE if name not in ("status", "setting", "stages")])
def test_rows_that_differ_in_a_field_of_the_identity_are_never_in_one_arm_of_a_race(field: str, tmp_path: Path) -> None:
    frame = loaded(tmp_path, halves())
    kind = str(frame[field].dtype)
    other = not frame[field][0] if kind == "bool" else {"int64": 77, "Int64": 77}.get(kind, "another")
    frame[field] = [old if seed == 0 else other for old, seed in zip(frame[field], frame["seed"], strict=True)]
    assert [lead for race in races(frame) for lead in leads(race)] == []


def test_a_machine_a_device_and_a_protocol_are_fields_like_the_others() -> None:
    assert {"protocol", "machine", "environment", "device"} <= set(alike("scenario"))
    assert set(GROUP) | {name for name, setting in SETTINGS.items() if setting.role == "setting"} <= set(WHOLE)


def test_random_starts_race_against_every_checkpoint_and_checkpoints_not_against_each_other(tmp_path: Path) -> None:
    def from_random(record: Record) -> Record:
        scenario = replace(record.case.scenario, start="random")
        case = replace(record.case, scenario=scenario, checkpoint=None, checkpoint_sha256=None)
        return replace(record, case=case, key=key(case), version=version(case))

    scratch = [from_random(record) for record in two("scratch", (0.1, 0.2), (0, 1))]
    tuned = [*two("full", SLOW, (0, 1), checkpoint="one"), *two("full", FAST, (0, 1), checkpoint="two")]
    groups = list(races(loaded(tmp_path, [*tuned, *scratch])))
    assert [sorted(set(rows["scenario"])) for rows in groups] == [["full", "scratch"]] * 2
    assert [len(rows) for rows in groups] == [4, 4]


def test_random_starts_alone_are_a_group(tmp_path: Path) -> None:
    record = build(scenario="scratch")
    case = replace(record.case, scenario=replace(record.case.scenario, start="random"))
    (rows,) = races(loaded(tmp_path, [replace(record, case=case)]))
    assert len(rows) == 1


def test_two_recipes_of_one_name_are_two_arms_told_apart(tmp_path: Path) -> None:
    frame = loaded(tmp_path, [*two("full", FAST, (0, 1)), *two("full", SLOW, (0, 1), more=2)])
    (race,) = races(frame)
    names = [lead.scenario for lead in leads(race)]
    assert [name.partition(",")[0] for name in names] == ["full (4 epochs", "full (6 epochs"]


def test_a_sentence_says_what_its_race_was_run_with_where_several_were(tmp_path: Path) -> None:
    def race(**changes: Any) -> list[Record]:
        return [*two("freeze-conv", FAST, (0, 1), **changes), *two("two-stage", SLOW, (0, 1), **changes)]

    said = list(sentences(loaded(tmp_path, [*race(), *race(head="mlp", threads=2)])))
    assert [line.partition(":")[0] for line in said] == [
        "resnet18 · pytorch · 1 thread · linear head", "resnet18 · pytorch · 2 threads · mlp head",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"stage": {"keep": "best"}}, {"stage": {"weight_decay": 0.5}}, {"dropout": False}, {"workers": 1}]
)
def test_recipes_that_differ_are_never_on_one_line_of_two_frameworks(changes: dict[str, Any], tmp_path: Path) -> None:
    keras = build(backend="keras3", engine="jax", **changes)
    lines = side_by_side(results.table(loaded(tmp_path, [build(), keras])))
    assert [list(line.cells) for line in lines] == [["pytorch"], ["keras3-jax"]]


def test_a_run_that_went_on_with_other_packages_is_two_points_of_its_history(tmp_path: Path) -> None:
    frame = loaded(tmp_path, [build(step_us=50_000), build(seed=1, step_us=70_000, versions={"pytorch": "9"})])
    rates = [one for one in history(frame) if one.metric == "throughput"]
    assert [[len(segment.points) for segment in one.segments] for one in rates] == [[1, 1]]
