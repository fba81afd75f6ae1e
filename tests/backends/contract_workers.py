"""Runs the contract suite's cases in the background."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import msgspec

from harness.launch import launch
from harness.machine import usable_cores

Pair = tuple[str, str | None, str, str]
"""Backend, engine, model and scenario of a case."""
CHUNK = 5
"""Cases that one worker checks, one after the other."""


class Workers:
    """Checks cases in worker processes, one at a time on the first core, while other tests go on."""

    def __init__(self, cases: Sequence[Pair], folder: Path) -> None:
        self._folder = folder
        # The thread keeps to a core, and so do the workers that it starts; other tests bind theirs to the last one.
        core = usable_cores()[0]
        self._pool = ThreadPoolExecutor(1, initializer=lambda: os.sched_setaffinity(0, {core}))
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
