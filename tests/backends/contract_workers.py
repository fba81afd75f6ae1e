"""Runs the contract suite's cases in workers, several in each, so that a framework starts once for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from harness.process.launch import launch

Pair = tuple[str, str | None, str, str]
"""Backend, engine, model and scenario of a case."""
CHUNK = 10
"""Cases that one worker checks, one after the other."""


class Workers:
    """Checks cases in worker processes, each chunk of them when its first one is asked for."""

    def __init__(self, cases: Sequence[Pair], folder: Path) -> None:
        self._folder = folder
        self._chunks: dict[Pair, list[Pair]] = {}
        for _, group in groupby(cases, key=lambda case: case[:2]):
            own = list(group)
            for start in range(0, len(own), CHUNK):
                chunk = own[start : start + CHUNK]
                self._chunks.update(dict.fromkeys(chunk, chunk))
        self._answers: dict[Pair, list[str]] = {}

    def answer(self, case: Pair) -> list[str]:
        """What is wrong with a case, as sentences."""
        if case not in self._answers:
            self._check(self._chunks[case])
        return self._answers[case]

    def _check(self, chunk: list[Pair]) -> None:
        backend, engine, *_ = chunk[0]
        place = self._folder / "-".join(map(str, chunk[0]))
        place.mkdir()
        outcome = launch(
            "tests.backends.contract:check_cases",
            {"backend": backend, "engine": engine, "pairs": [case[2:] for case in chunk], "folder": str(place)},
            folder=place / "worker",
            cores=1,
            engine=engine,
            timeout_s=850,
        )
        assert outcome.ending == "ok", f"{outcome.reason}\n{(place / 'worker' / 'log.txt').read_text()[-3000:]}"
        found = msgspec.json.decode(outcome.value, type=dict[str, list[str]])
        self._answers |= {case: found[f"{case[2]}/{case[3]}"] for case in chunk}
