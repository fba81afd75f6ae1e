from __future__ import annotations

import pytest

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.scenarios import FIVE, SCENARIOS
from benchmarks.choosing.selection import expand
from benchmarks.choosing.suites import SUITES
from benchmarks.datasets import embedded
from benchmarks.preparing.plan import steps_of
from harness.spec import key


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_amounts_to_cases_that_differ(name: str) -> None:
    catalogue = read_catalogue()
    cases = [selected.case for selection in SUITES[name].selections for selected in expand(selection, catalogue)]
    assert cases
    assert len({key(case) for case in cases}) == len(cases)
    assert SUITES[name].name == name
    assert len(SUITES[name].explanation) > 20


@pytest.mark.parametrize("name", SUITES)
def test_every_stage_of_every_suite_has_steps_to_measure(name: str) -> None:
    catalogue, images = read_catalogue(), len(embedded.target()["train"][1])
    for selection in SUITES[name].selections:
        for case in (selected.case for selected in expand(selection, catalogue)):
            for stage in case.scenario.stages:
                assert steps_of(stage, images) >= case.warmup_steps + 2, case.label


def labels(name: str) -> set[tuple[str, str, str]]:
    catalogue = read_catalogue()
    found = (selected.case for selection in SUITES[name].selections for selected in expand(selection, catalogue))
    return {(case.backend, case.model, case.scenario.name) for case in found}


def test_smoke_is_one_case_each_that_needs_no_pretraining() -> None:
    assert {backend for backend, _, _ in labels("smoke")} == {"reference", "pytorch", "keras3"}
    assert len(labels("smoke")) == 3
    assert {scenario for _, _, scenario in labels("smoke")} == {"scratch"}


def test_the_default_suite_is_three_models_in_five_ways_one_of_them_in_two_backends() -> None:
    models = [("pytorch", name) for name in ("resnet18", "efficientnet-b0", "mobilenet-v2-0.35")]
    models.append(("keras3", "mobilenet-v2-0.35"))
    assert labels("default") == {(*model, scenario) for model in models for scenario in FIVE}


def test_the_full_suite_holds_every_scenario_and_the_default_one() -> None:
    assert labels("default") < labels("full")
    assert {scenario for _, _, scenario in labels("full")} == set(SCENARIOS)
