"""A clock that takes turns, in this process: orders come from a list, time from wherever a test says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.clock import TimeSource
from harness.pairing.turn_clock import TurnClock
from harness.spec import Stage


def turn_clock(orders: Iterable[dict[str, Any]], source: TimeSource, **more: Any) -> TurnClock:
    """The clock of a stage with batches of eight; `more` goes to `TurnClock`."""
    waiting = iter(orders)
    return TurnClock(
        stage=Stage(epochs=1, head_lr=0.1, backbone_lr=0.1, batch_size=8),
        sync=lambda: None,
        compile_events=lambda: 0,
        orders=lambda: next(waiting),
        report=lambda event: None,
        source=source,
        **more,
    )
