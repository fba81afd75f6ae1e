"""The suites of this project, and the labels of any suite's cases. A user's suite is a TOML file (see `read_suite`)."""

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
            "one short case each of reference, PyTorch and Keras on TensorFlow, with small images, to check a setup",
            tuple(
                Selection(backend=(backend,), model=(model,), scenario=("scratch",), epochs=2, image_size=(32,))
                for backend, model in (
                    ("reference", "tiny-cnn"),
                    ("pytorch", "resnet18"),
                    ("keras3", "mobilenet-v2-0.35"),
                )
            ),
        ),
        Suite(
            "default",
            "mobilenet-v2-0.35 in PyTorch and Keras, resnet18 and efficientnet-b0 in PyTorch, five scenarios",
            (
                # Five epochs and, for the larger networks, a larger rate, so that the suite ends within minutes.
                Selection(
                    backend=("pytorch", "keras3"), model=("mobilenet-v2-0.35",), scenario=FIVE, seeds=2, epochs=5
                ),
                Selection(
                    backend=("pytorch",), model=("resnet18", "efficientnet-b0"), scenario=FIVE, epochs=5, lr=0.01
                ),
            ),
        ),
        Suite(
            "gate",
            "the default of `gate`: resnet18 in PyTorch with two scenarios, mobilenet-v2-0.35 in Keras with one",
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


def suite_cases(suite: str, plugins: tuple[str, ...] = ()) -> list[str]:
    """Return the labels of a suite's cases in this checkout; `suite` is a name or a TOML file."""
    selections, catalogue = find_suite(suite, plugins)
    return [case_label(selected.case) for selected in expand_suite(selections, catalogue)]


def find_suite(suite: str, plugins: Sequence[str] = ()) -> tuple[tuple[Selection, ...], Catalogue]:
    """Return the selections of a suite and the catalogue. Raises `Refused` with the nearest names."""
    if suite in SUITES:
        return SUITES[suite].selections, read_catalogue(plugins)
    if not Path(suite).is_file():
        raise Refused(unknown("suite", suite, SUITES))
    selections, scenarios = read_suite(Path(suite))
    return tuple(selections), read_catalogue(plugins, scenarios)


def expand_suite(selections: Sequence[Selection], catalogue: Catalogue) -> list[SelectedCase]:
    """Return the cases, each with one of its seeds."""
    cases = [selected for selection in selections for selected in expand(selection, catalogue)]
    return list({case_label(selected.case): selected for selected in cases}.values())


def case_label(case: Case) -> str:
    """Return the name of a case without its seed, by which `gate` matches cases."""
    return f"{case.backend_name}/{case.model}/{case.scenario.name}"
