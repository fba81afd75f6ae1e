"""Every backend, engine, model and scenario keeps the contract; a new one is picked up unasked."""

from __future__ import annotations

import pytest

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.scenarios import SCENARIOS
from benchmarks.selftest.several_devices.trials import MODEL, plugin_of
from tests.backends.contract_workers import Workers

REAL = "resnet18"
"""Of all models the one with the fewest layers, so a framework traces and compiles it in the shortest time."""

CATALOGUE = read_catalogue()
ARMS = [(name, engine) for name, facts in CATALOGUE.backends.items() for engine in facts.engines or (None,)]


def _once_each(backend: str, engine: str | None) -> list[tuple[str, str]]:
    """Each scenario once, on a small network, and each model once, each with another scenario.

    Engines but the first run three scenarios, one of them on a real model.
    """
    models, names = CATALOGUE.backends[backend].models, list(SCENARIOS)
    quickest = min(models, key=lambda name: models[name].gmacs)
    small = MODEL if plugin_of(backend).exists() else quickest
    if engine is not None and engine != CATALOGUE.engine(backend):
        return [(REAL if REAL in models else quickest, "full"), (small, "freeze-conv"), (small, "two-stage")]
    others = [name for name in models if name != small]
    return [(small, name) for name in names] + [(model, names[i % len(names)]) for i, model in enumerate(others, 1)]


def _product(backend: str) -> list[tuple[str, str]]:
    return [(model, name) for model in CATALOGUE.backends[backend].models for name in SCENARIOS]


SHORT = [(*arm, *pair) for arm in ARMS for pair in _once_each(*arm)]
LONG = [(*arm, *pair) for arm in ARMS for pair in _product(arm[0])]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("backend", "engine", "model", "scenario"), SHORT)
def test_contract_holds(workers: Workers, backend: str, engine: str | None, model: str, scenario: str) -> None:
    _judge(workers.answer((backend, engine, model, scenario)))


@pytest.mark.long
@pytest.mark.parametrize(("backend", "engine", "model", "scenario"), LONG)
def test_contract_holds_for_the_whole_product(
    workers: Workers, backend: str, engine: str | None, model: str, scenario: str
) -> None:
    _judge(workers.answer((backend, engine, model, scenario)))


def _judge(problems: list[str]) -> None:
    if problems and problems[0].startswith("declined"):
        pytest.skip(problems[0])
    assert problems == []
