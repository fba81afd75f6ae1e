"""A replacement of `harness.process.launch.launch` that runs a case in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.clock import TimeSource
from harness.process.environment import HERE, Place
from harness.process.launch import Event, Outcome
from harness.process.worker import classify
from harness.rules import switched_off
from harness.running.run import run_case
from results.rules.registry import RULES

Memory = dict[tuple[object, ...], tuple[Outcome, bytes]]
"""The outcomes and logits of workers, by their arguments and their switched-off rules."""
IN_WORKERS = {rule.id for rule in RULES if rule.scope in ("session", "audit")}


def launch_here(source: TimeSource, memory: Memory) -> Callable[..., Outcome]:
    """Return a replacement of `launch` that runs a case with simulated time, and caches the outcome."""

    def launch(
        call: str,
        arguments: Mapping[str, Any],
        *,
        folder: Path,
        cores: int | None = None,
        engine: str | None = None,
        timeout_s: float | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        place: Place = HERE,
    ) -> Outcome:
        (folder / "log.txt").touch()
        key = msgspec.json.encode(arguments), switched_off() & IN_WORKERS
        if key not in memory:
            outcome = run(arguments, folder, on_event)
            logits = folder / "logits.npz"
            memory[key] = outcome, logits.read_bytes() if logits.exists() else b""
        outcome, logits_bytes = memory[key]
        (folder / "logits.npz").write_bytes(logits_bytes)
        return msgspec.structs.replace(outcome, folder=folder)

    def run(arguments: Mapping[str, Any], folder: Path, on_event: Callable[[Event], None]) -> Outcome:
        try:
            record = run_case(arguments["job"], str(folder), time.time(), on_event, source=source)
        except Exception as error:  # noqa: BLE001 - a worker, too, turns every error into a reason
            ending, reason = classify(error)
            return Outcome(ending=msgspec.convert(ending, str), reason=reason, folder=folder)
        return Outcome(ending="ok", value=msgspec.Raw(msgspec.json.encode(record)), folder=folder)

    return launch
