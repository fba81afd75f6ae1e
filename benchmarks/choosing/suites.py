"""The suites that come with the project, and the cases of any suite by label.

A user's own suite is a TOML file with the same fields (see `selection`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.scenarios import FIVE, SCENARIOS
from benchmarks.choosing.selection import SelectedCase, Selection, expand, read_suite
from harness.errors import Refused, unknown
from harness.spec import Case


class Suite(NamedTuple):
    """A named list of selections."""

    name: str
    explanation: str
    selections: tuple[Selection, ...]


SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "smoke",
            "one short case each of reference, PyTorch and Keras on TensorFlow, without pretraining: does it run here?",
            (
                Selection(backend=("reference",), model=("tiny-cnn",), scenario=("scratch",), epochs=2),
                Selection(backend=("pytorch",), model=("resnet18",), scenario=("scratch",), epochs=2),
                Selection(backend=("keras3",), model=("mobilenet-v2-0.35",), scenario=("scratch",), epochs=2),
            ),
        ),
        Suite(
            "default",
            "mobilenet-v2-0.35 in PyTorch and Keras, resnet18 and efficientnet-b0 in PyTorch, five scenarios",
            (
                Selection(
                    backend=("pytorch", "keras3"), model=("mobilenet-v2-0.35",), scenario=FIVE, seeds=2, epochs=6
                ),
                # A larger rate for few epochs, so that the suite ends within minutes on two slow cores.
                Selection(
                    backend=("pytorch",), model=("resnet18", "efficientnet-b0"), scenario=FIVE, epochs=5, lr=0.01
                ),
            ),
        ),
        Suite(
            "gate",
            "what `gate` compares if no suite is named: one training and one frozen case of PyTorch, one of Keras",
            (
                Selection(backend=("pytorch",), model=("resnet18",), scenario=("full", "freeze-conv")),
                Selection(backend=("keras3",), model=("mobilenet-v2-0.35",), scenario=("full",)),
            ),
        ),
        Suite(
            "full",
            "every scenario, every backend and its default models, three seeds, embedded task",
            (
                Selection(backend=("pytorch",), scenario=tuple(SCENARIOS), seeds=3),
                Selection(backend=("keras3",), scenario=tuple(SCENARIOS), seeds=3),
            ),
        ),
    )
}


def suite_cases(suite: str) -> list[str]:
    """Labels of a suite's cases in this checkout: a suite's name, or a TOML file."""
    selections, catalogue = find_suite(suite)
    return [case_label(selected.case) for selected in expand_suite(selections, catalogue)]


def find_suite(suite: str) -> tuple[tuple[Selection, ...], Catalogue]:
    """Its selections, and what there is to choose from. Raises `Refused` with the nearest names."""
    if suite in SUITES:
        return SUITES[suite].selections, read_catalogue()
    if not Path(suite).is_file():
        raise Refused(unknown("suite", suite, SUITES))
    selections, scenarios = read_suite(Path(suite))
    return tuple(selections), read_catalogue((), scenarios)


def expand_suite(selections: Sequence[Selection], catalogue: Catalogue) -> list[SelectedCase]:
    """The cases, each once however many seeds it has."""
    cases = [selected for selection in selections for selected in expand(selection, catalogue)]
    return list({case_label(selected.case): selected for selected in cases}.values())


def case_label(case: Case) -> str:
    """A case's name without its seed, as `gate` tells whether it is still there."""
    return f"{case.backend_name}/{case.model}/{case.scenario.name}"
