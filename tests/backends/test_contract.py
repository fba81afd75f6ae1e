"""Every backend, engine, model and scenario keeps the contract; a new one is picked up unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue

import msgspec
import pytest

from benchmarks.catalogue import read_catalogue
from benchmarks.scenarios import SCENARIOS
from harness.launch import launch
from harness.machine import usable_cores

Pair = tuple[str, str | None, str, str]
"""Backend, engine, model and scenario of a case."""

CATALOGUE = read_catalogue()
ARMS = [(name, engine) for name, facts in CATALOGUE.backends.items() for engine in facts.engines or (None,)]


def _once_each(backend: str, engine: str | None) -> list[tuple[str, str]]:
    """Each model once and each scenario once; engines but the first run three scenarios on the smallest model."""
    models = CATALOGUE.backends[backend].models
    smallest = min(models, key=lambda name: models[name])
    names = list(SCENARIOS)
    if engine is not None and engine != CATALOGUE.engine(backend):
        return [(smallest, name) for name in ("full", "freeze-conv", "two-stage")]
    others = [name for name in models if name != smallest]
    return [(smallest, name) for name in names] + [(model, names[i % len(names)]) for i, model in enumerate(others, 1)]


def _product(backend: str) -> list[tuple[str, str]]:
    return [(model, name) for model in CATALOGUE.backends[backend].models for name in SCENARIOS]


SHORT = [(*arm, *pair) for arm in ARMS for pair in _once_each(*arm)]
LONG = [(*arm, *pair) for arm in ARMS for pair in _product(arm[0])]


CHUNK = 5
"""Cases that one worker checks, one after the other."""


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


class Workers:
    """Checks cases in worker processes, as many at a time as there are cores; answers come as they are asked for."""

    def __init__(self, cases: Sequence[Pair], folder: Path) -> None:
        self._folder = folder
        cores: SimpleQueue[int] = SimpleQueue()
        for core in usable_cores():
            cores.put(core)
        # Each thread keeps to a core of its own, and so do the workers that it starts.
        self._pool = ThreadPoolExecutor(cores.qsize(), initializer=lambda: os.sched_setaffinity(0, {cores.get()}))
        self._answers: dict[Pair, Future[dict[str, list[str]]]] = {}
        for arm, group in groupby(cases, key=lambda case: case[:2]):
            own = list(group)
            for start in range(0, len(own), CHUNK):
                chunk = own[start : start + CHUNK]
                future = self._pool.submit(self._check, *arm, [case[2:] for case in chunk], start)
                self._answers.update(dict.fromkeys(chunk, future))

    def answer(self, case: Pair) -> list[str]:
        """What is wrong with a case, as sentences."""
        return self._answers[case].result()[f"{case[2]}/{case[3]}"]

    def close(self) -> None:
        """Wait for the worker that runs, and start no other."""
        self._pool.shutdown(cancel_futures=True)

    def _check(
        self, backend: str, engine: str | None, pairs: list[tuple[str, str]], number: int
    ) -> dict[str, list[str]]:
        place = self._folder / f"{backend}-{engine}-{number}"
        place.mkdir()
        outcome = launch(
            "tests.backends.contract:check_cases",
            {"backend": backend, "engine": engine, "pairs": pairs, "folder": str(place)},
            folder=place / "worker",
            cores=1,
            engine=engine,
            timeout_s=850,
        )
        assert outcome.ending == "ok", f"{outcome.reason}\n{(place / 'worker' / 'log.txt').read_text()[-3000:]}"
        return msgspec.json.decode(outcome.value, type=dict[str, list[str]])


@pytest.fixture(scope="module")
def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    names = ("backend", "engine", "model", "scenario")
    chosen = [item for item in request.session.items if "workers" in getattr(item, "fixturenames", ())]
    cases = [tuple(item.callspec.params[name] for name in names) for item in chosen]  # type: ignore[attr-defined]
    made = Workers(cases, tmp_path_factory.mktemp("contract"))
    yield made
    made.close()


def _judge(problems: list[str]) -> None:
    if problems and problems[0].startswith("declined"):
        pytest.skip(problems[0])
    assert problems == []
