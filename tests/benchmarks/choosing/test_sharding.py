"""A plan is split the same way everywhere: every case is in exactly one part, and the parts take about equal time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import SelectedCase, Selection, expand, in_turns
from benchmarks.choosing.sharding import Item, Share, case_items, part_of, split
from benchmarks.running import forecast
from benchmarks.running.forecast import nominal_s
from harness.spec import key
from tests.benchmarks.commanding import refused

CATALOGUE = read_catalogue()
items = st.lists(
    st.builds(
        Item, value=st.integers(), label=st.text(max_size=3), seconds=st.floats(0.1, 1e4),
        identity=st.integers(), together=st.integers(0, 9),
    ),
    max_size=40,
)  # fmt: skip
suites = st.lists(
    st.builds(
        Selection,
        backend=st.sampled_from([(), ("pytorch",), ("reference", "pytorch"), ("keras3", "pytorch")]),
        model=st.sampled_from([("tiny-cnn",), ("resnet18",), ("resnet18", "mobilenet-v2-0.35")]),
        scenario=st.lists(st.sampled_from(["full", "scratch", "two-stage"]), min_size=1, max_size=3).map(tuple),
        seeds=st.integers(1, 3),
        image_size=st.sampled_from([(), (32, 64)]),
        threads=st.sampled_from([(), (1, 2)]),
    ),
    min_size=1,
    max_size=3,
)


def cases_of(selections: list[Selection]) -> list[SelectedCase]:
    known = {name: facts.models for name, facts in CATALOGUE.backends.items()}
    able = [
        one for one in selections
        if all(any(model in known[backend] for model in one.model) for backend in one.backend)
        and all(any(model in known[name] for name in one.backend or set(known) - {"reference"}) for model in one.model)
    ]  # fmt: skip
    return in_turns([selected for one in able for selected in expand(one, CATALOGUE)])


def as_items(cases: list[SelectedCase]) -> list[Item[SelectedCase]]:
    return case_items((one, nominal_s(one.case, CATALOGUE)) for one in cases)


@given(items=items, count=st.integers(1, 7))
def test_every_item_is_in_one_part_and_the_parts_differ_by_one_group_at_most(
    items: list[Item[int]], count: int
) -> None:
    parts = split(items, count)
    assert sorted(place for part in parts for place in part) == list(range(len(items)))
    assert all(part == sorted(part) for part in parts)
    groups: dict[object, float] = {}
    for item in items:
        groups[item.together] = groups.get(item.together, 0.0) + item.seconds
    homes = {(item.together, number) for number, part in enumerate(parts) for item in (items[n] for n in part)}
    assert len(homes) == len(groups)
    sums = [sum(items[place].seconds for place in part) for part in parts]
    assert max(sums) - min(sums) <= max(groups.values(), default=0.0) * (1 + 1e-9)


@given(suite=suites, count=st.integers(1, 6))
@settings(max_examples=60)
def test_the_parts_of_any_suite_are_the_whole_suite_and_hold_no_case_twice(suite: list[Selection], count: int) -> None:
    whole = cases_of(suite)
    parts = [part_of(Share(number, count), as_items(whole), "cases") for number in range(1, count + 1)]
    keys = [key(selected.case) for own, _ in parts for selected in own]
    assert len(keys) == len(set(keys))
    assert set(keys) == {key(selected.case) for selected in whole}
    assert len({shard.plan for _, shard in parts}) == 1
    assert all(shard.own == tuple(selected.case.label for selected in own) for own, shard in parts)


@given(suite=suites)
@settings(max_examples=30)
def test_cases_that_are_compared_between_backends_are_in_one_part(suite: list[Selection]) -> None:
    whole = as_items(cases_of(suite))
    homes: dict[object, set[int]] = {}
    for number in (1, 2, 3):
        for selected in part_of(Share(number, 3), whole, "cases")[0]:
            case = selected.case
            alike = (case.model, case.scenario.name, case.image_size, case.threads, case.seed)
            homes.setdefault(alike, set()).add(number)
    backends: dict[object, set[str]] = {}
    for item in whole:
        case = item.value.case
        alike = (case.model, case.scenario.name, case.image_size, case.threads, case.seed)
        backends.setdefault(alike, set()).add(case.backend_name)
    assert all(len(homes[alike]) == 1 for alike, names in backends.items() if len(names) > 1)


def test_seeds_of_one_backend_may_be_in_different_parts() -> None:
    whole = as_items(cases_of([Selection(backend=("reference",), model=("tiny-cnn",), scenario=("full",), seeds=4)]))
    assert [len(part_of(Share(number, 4), whole, "cases")[0]) for number in (1, 2, 3, 4)] == [1, 1, 1, 1]


def test_another_machine_with_other_cores_speed_and_folders_computes_the_same_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shards(data: Path) -> list[tuple[str, ...]]:
        selection = Selection(backend=("reference", "pytorch"), model=("tiny-cnn", "resnet18"), data=(str(data),),
                              scenario=("full", "scratch"), checkpoint=(str(data / "x.safetensors"),))  # fmt: skip
        found = [part_of(Share(number, 3), as_items(cases_of([selection])), "cases")[1] for number in (1, 2, 3)]
        return [(shard.plan, *shard.own) for shard in found]

    here, there = tmp_path / "here" / "photos", tmp_path / "there" / "photos"
    for folder, images in ((here, 3), (there, 500)):
        folder.mkdir(parents=True)
        for number in range(images):
            (folder / f"{number}.png").touch()
    before = shards(here)
    monkeypatch.setattr("benchmarks.choosing.selection.measuring_threads", lambda: 31)
    monkeypatch.setattr(forecast, "_measured", lambda *_: pytest.fail("local records must not matter"))
    assert shards(there) == before
    assert shards(tmp_path / "others") != before


def test_numbers_of_threads_that_the_user_gave_are_part_of_the_plan() -> None:
    def plan(threads: int) -> str:
        cases = cases_of([Selection(backend=("reference",), model=("tiny-cnn",), threads=(threads,))])
        return part_of(Share(1, 2), case_items(((one, 1.0) for one in cases), threads=True), "cases")[1].plan

    assert plan(1) != plan(2)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/2", "1/2/3"])
def test_a_part_that_does_not_exist_is_refused(text: str) -> None:
    assert f"{text} must be K/N with K from 1 to N" in refused("run", "--shard", text)
