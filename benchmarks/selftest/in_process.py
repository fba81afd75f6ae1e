"""A worker's job done in this process: what `harness.process.launch.launch` does, without the process."""

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
"""What workers answered, with the logits they left, by their job and by the rules of theirs that were switched off."""
IN_WORKERS = {rule.id for rule in RULES if rule.scope in ("session", "audit")}


def launch_here(source: TimeSource, memory: Memory) -> Callable[..., Outcome]:
    """A stand-in for `launch` that runs a case on a machine's time, unless it remembers how that went."""

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
        asked = msgspec.json.encode(arguments), switched_off() & IN_WORKERS
        if asked not in memory:
            outcome = run(arguments, folder, on_event)
            logits = folder / "logits.npz"
            memory[asked] = outcome, logits.read_bytes() if logits.exists() else b""
        outcome, logits_bytes = memory[asked]
        (folder / "logits.npz").write_bytes(logits_bytes)
        return msgspec.structs.replace(outcome, folder=folder)

    def run(arguments: Mapping[str, Any], folder: Path, on_event: Callable[[Event], None]) -> Outcome:
        try:
            record = run_case(arguments["job"], str(folder), time.time(), on_event, source)
        except Exception as error:  # noqa: BLE001 - as a worker does, which turns whatever ends it into a reason
            ending, reason = classify(error)
            return Outcome(ending=msgspec.convert(ending, str), reason=reason, folder=folder)
        return Outcome(ending="ok", value=msgspec.Raw(msgspec.json.encode(record)), folder=folder)

    return launch
